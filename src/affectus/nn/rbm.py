"""Restricted Boltzmann machines, learned by contrastive divergence.

Hinton 2002: Training Products of Experts by Minimizing Contrastive Divergence; Hinton 2012: A Practical Guide to
Training Restricted Boltzmann Machines.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RBM(nn.Module):
    """Binary hidden units over binary visible ones, or over Gaussian ones of variance 1.

    Args:
        visible: units.
        hidden: units.
        gaussian: the visible units are numbers, not binary.
    """

    def __init__(self, visible: int, hidden: int, *, gaussian: bool) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.weight = nn.Parameter(torch.randn(hidden, visible) * 0.01)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))

    def hidden(self, v: Tensor) -> Tensor:
        """Return p(h = 1 | v), (..., hidden) for (..., visible)."""
        return torch.sigmoid(F.linear(v, self.weight, self.hidden_bias))

    def visible(self, h: Tensor) -> Tensor:
        """Return the mean of v given h, (..., visible) for (..., hidden)."""
        mean = F.linear(h, self.weight.T, self.visible_bias)
        return mean if self.gaussian else torch.sigmoid(mean)

    def free_energy(self, v: Tensor) -> Tensor:
        """Return F(v) with p(v) ~ exp(-F(v)), (...,) for (..., visible)."""
        hidden = F.softplus(F.linear(v, self.weight, self.hidden_bias)).sum(dim=-1)
        if self.gaussian:
            return 0.5 * ((v - self.visible_bias) ** 2).sum(dim=-1) - hidden
        return -v @ self.visible_bias - hidden

    def divergence(self, v: Tensor, there: Tensor, known: Tensor | None = None) -> Tensor:
        """Return a loss whose value is the error of the reconstruction and whose gradient is one step of CD-1.

        The hidden units are drawn in training and are their own probabilities in evaluation; the reconstruction is its
        mean. The gradient with respect to the parameters is that of F(v) - F(v'), v' the reconstruction, itself held
        fixed: the positive less the negative statistics.

        Args:
            v: (..., visible), finite.
            there: (...) bool, the rows that count.
            known: (..., visible) bool, the units of a row that are there; None for all. The others have no part in the
                energy, nor in the error.

        Returns:
            The mean squared error of the units that are known, a scalar; 0 if no row counts.
        """
        known = torch.ones_like(v, dtype=torch.bool) if known is None else known
        with torch.no_grad():
            v = v * known
            h = self.hidden(v)
            again = self.visible(torch.bernoulli(h) if self.training else h) * known
            error = ((v - again) ** 2).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
            error = (error * there).sum() / there.sum().clamp(min=1)
        difference = ((self.free_energy(v) - self.free_energy(again)) * there).sum() / there.sum().clamp(min=1)
        return error + difference - difference.detach()

"""GRUs over sequences of frames, without dropout inside: PyTorch's layer, made fast on a CPU.

On a GPU this is PyTorch's own layer over packed sequences. On a CPU the gradient of that grows with the square of the
length (2.3 s for one batch of 32 sequences of 500 steps), so the steps are taken here, and their gradient is written
out: 0.1 s for the same batch. ``affectus.nn.recurrent`` has the dropouts of Keras instead.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affectus.nn.kernels import Arrays, kernels_for, through
from affectus.nn.masking import to_front, zero_masked
from affectus.nn.matmul import matmul
from affectus.nn.packing import Packing, steps_before
from affectus.nn.precision import in_full
from affectus.nn.tracing import State, Stepped, apart, is_plain, run_steps

CHUNK = 16
"""Steps whose gates go backward together: few enough to stay in the processor's cache."""


class BiGRU(nn.Module):
    """A bidirectional GRU whose masked steps are skipped, wherever they stand.

    Args:
        dim: width of the input.
        hidden: size of the state per direction.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layer = nn.GRU(dim, hidden, batch_first=True, bidirectional=True)

    @apart
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Run over the real steps.

        Args:
            x: (B, T, dim).
            mask: (B, T) bool, True for real steps.

        Returns:
            (B, T, 2 * hidden): the forward state, then the backward one; zero where masked.
        """
        if kernels_for(x) is not None:
            packing = Packing(mask)
            rows = packing.pack(x)
            forward, backward = (
                packed_states(self.layer, some, packing, suffix)
                for some, suffix in ((rows, ""), (rows[packing.turned], "_reverse"))
            )
            return packing.unpack(torch.cat([forward, backward[packing.turned]], dim=-1))
        front, lengths = to_front(x, mask)  # (B, T', dim)
        own = x.device.type == "cpu" or is_plain()
        y = self._stepwise(front, lengths) if own else self._packed(front, lengths)
        place = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (B, T), where each real step went
        return zero_masked(_gather(y, place), mask)

    def _packed(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        padded: Tensor = pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]
        return padded

    def _stepwise(self, x: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], device=x.device)
        # the backward direction reads each sequence from its own end; this order is its own inverse
        turned = torch.where(steps < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - steps, steps)  # (B, T')
        both = torch.stack([x, _gather(x, turned)])  # (2, B, T', dim)
        forward, backward = _states(self.layer, both, ("", "_reverse"))  # (B, T', hidden) each
        return torch.cat([forward, _gather(backward, turned)], dim=-1)


class LastGRU(nn.Module):
    """A GRU in one direction whose masked steps are skipped, read after the last real step.

    Args:
        dim: width of the input.
        hidden: size of the state.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layer = nn.GRU(dim, hidden, batch_first=True)

    @apart
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) and its mask (B, T) to (B, hidden), zero for a sample without a real step."""
        if kernels_for(x) is not None:
            packing = Packing(mask)
            return packing.last(packed_states(self.layer, packing.pack(x), packing, ""))
        front, lengths = to_front(x, mask)  # (B, T', dim)
        theirs = x.is_cuda and not is_plain()
        states = in_full(self.layer, front)[0] if theirs else _states(self.layer, front.unsqueeze(0), ("",))[0]
        last = _gather(states, (lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        return zero_masked(last, lengths > 0)


def packed_states(layer: nn.GRU, rows: Tensor, packing: Packing, suffix: str) -> Tensor:
    """Run a direction of a layer, named by the ending of its weights, by the kernels: (N, dim) to (N, hidden)."""
    inner, recurrent, inner_bias, bias = (
        getattr(layer, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return gru_with_dropout(rows, inner, inner_bias, recurrent, bias, None, packing.sizes)


def gru_with_dropout(
    rows: Tensor,
    inner: Tensor,
    inner_bias: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    keep: Tensor | None,
    sizes: list[int],
) -> Tensor:
    """Return the states (N, hidden) of a GRU, some of its state dropped on the way into the gates, by the kernels.

    Args:
        rows: (N, dim) packed rows.
        inner: (3 * hidden, dim), the gates in PyTorch's order.
        inner_bias: (3 * hidden,).
        recurrent: (3 * hidden, hidden).
        bias: (3 * hidden,), added to the state's part.
        keep: (B, hidden), what the state is multiplied with, the longest sample first; None for 1.
        sizes: rows of each step.
    """
    both = 2 * recurrent.shape[1]
    # the recurrent bias of the reset and update gates adds to the input's; that of the candidate is gated
    inner_bias = inner_bias + torch.cat([bias[:both], torch.zeros_like(bias[both:])])
    states: Tensor = in_full(_PackedSteps.apply, rows, inner, inner_bias, recurrent, bias[both:], keep, sizes)
    return states


class _PackedSteps(torch.autograd.Function):
    """What :class:`_Steps` does, over packed rows, by the kernels."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        inner: Tensor,
        bias: Tensor,
        recurrent: Tensor,
        candidate_bias: Tensor,
        keep: Tensor | None,
        sizes: list[int],
    ) -> Tensor:
        """Run; the arguments are those of :func:`gru_with_dropout`, with the biases of :class:`_Steps`."""
        kernels, hidden = kernels_for(x), recurrent.shape[1]
        assert kernels is not None
        gates = matmul(x, inner.T, bias)  # turned into the gates' values
        states, product = (x.new_empty(len(x), hidden) for _ in range(2))
        seen = None if keep is None else torch.zeros_like(states)
        arrays = Arrays(
            "gru",
            hidden,
            gates=gates,
            product=product,
            states=states,
            bias=candidate_bias.contiguous(),
            keep=keep,
            seen=seen,
        )
        both = 2 * hidden
        through(kernels, "gru", arrays, sizes, [recurrent[:both].T, recurrent[both:].T])
        ctx.save_for_backward(x, inner, recurrent, gates, product, states, keep, seen)
        ctx.sizes = sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the steps."""
        x, inner, recurrent, gates, product, states, keep, seen = ctx.saved_tensors
        kernels, sizes, hidden = kernels_for(x), ctx.sizes, recurrent.shape[1]
        assert kernels is not None
        slopes, of_product = torch.empty_like(gates), torch.empty_like(product)
        carried = x.new_zeros(sizes[0] if sizes else 0, hidden)
        arrays = Arrays(
            "gru",
            hidden,
            gates=gates,
            product=product,
            states=states,
            keep=keep,
            slopes=slopes,
            of_product=of_product,
            given=grad.contiguous(),
            carried=carried,
            room=None if keep is None else torch.empty_like(carried),
        )
        both = 2 * hidden
        through(kernels, "gru_back", arrays, sizes, [recurrent[:both], recurrent[both:]], len(x))
        if seen is None:
            seen = steps_before(states, sizes)
        grad_recurrent = torch.cat([matmul(slopes[:, :both].T, seen), matmul(of_product.T, seen)])
        grad_x = matmul(slopes, inner) if ctx.needs_input_grad[0] else None
        return grad_x, matmul(slopes.T, x), slopes.sum(dim=0), grad_recurrent, of_product.sum(dim=0), None, None


def _states(layer: nn.GRU, x: Tensor, suffixes: tuple[str, ...]) -> Tensor:
    """Run each direction of a layer, named by the ending of its weights, over an input of its own.

    (D, B, T, dim) to (D, B, T, hidden).
    """
    inner, recurrent, inner_bias, bias = (
        torch.stack([getattr(layer, f"{name}_l0{suffix}") for suffix in suffixes])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = layer.hidden_size
    # the recurrent bias of the reset and update gates adds to the input's; that of the candidate is gated
    inner_bias = inner_bias + torch.cat([bias[:, : 2 * hidden], torch.zeros_like(bias[:, 2 * hidden :])], dim=1)
    if is_plain():
        return _plain(x.transpose(1, 2), inner, inner_bias, recurrent, bias[:, 2 * hidden :]).transpose(1, 2)
    states: Tensor = in_full(_Steps.apply, x.transpose(1, 2), inner, inner_bias, recurrent, bias[:, 2 * hidden :])
    return states.transpose(1, 2)


def _plain(x: Tensor, inner: Tensor, bias: Tensor, recurrent: Tensor, candidate_bias: Tensor) -> Tensor:
    """What :class:`_Steps` does, (D, T, B, dim) to (D, T, B, hidden)."""
    hidden = recurrent.shape[-1]
    both = 2 * hidden
    entering = (x @ inner.transpose(1, 2).unsqueeze(1) + bias[:, None, None]).transpose(0, 1)  # (T, D, B, 3 * hidden)

    def step(before: State, now: State) -> Stepped:
        seen = before[0] @ recurrent.transpose(1, 2)  # (D, B, 3 * hidden)
        reset, update = torch.sigmoid(now[0][..., :both] + seen[..., :both]).chunk(2, dim=-1)
        candidate = torch.tanh(now[0][..., both:] + reset * (seen[..., both:] + candidate_bias.unsqueeze(1)))
        after = candidate + update * (before[0] - candidate)
        return (after,), (after,)

    start = x.new_zeros(x.shape[0], x.shape[2], hidden)
    return run_steps(step, (start,), (entering,))[1][0].transpose(0, 1)


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Rows of (B, T, d) by (B, T')."""
    return x.gather(1, index.unsqueeze(-1).expand(*index.shape, x.shape[-1]))


class _Steps(torch.autograd.Function):
    """All steps of D independent GRUs at once, with a gradient that is written out.

    Per step, with the gates in PyTorch's order and sense:

        r = sigmoid(W_r x + b_r + U_r h)
        z = sigmoid(W_z x + b_z + U_z h)
        n = tanh(W_n x + b_n + r (U_n h + c))
        h' = n + z (h - n)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, inner: Tensor, bias: Tensor, recurrent: Tensor, candidate_bias: Tensor) -> Tensor:
        """Run.

        Args:
            ctx: keeps what the gradient needs.
            x: (D, T, B, dim).
            inner: (D, 3 * hidden, dim), W.
            bias: (D, 3 * hidden), b.
            recurrent: (D, 3 * hidden, hidden), U.
            candidate_bias: (D, hidden), c.

        Returns:
            (D, T, B, hidden) the states.
        """
        directions, steps, batch, _ = x.shape
        hidden = recurrent.shape[-1]
        both = 2 * hidden
        flat = x.reshape(directions, steps * batch, -1)
        # filled with W x + b, and turned into the gates' values step by step
        gates = torch.baddbmm(bias[:, None, :both], flat, inner[:, :both].transpose(1, 2))
        gates = gates.view(directions, steps, batch, both)
        candidates = torch.baddbmm(bias[:, None, both:], flat, inner[:, both:].transpose(1, 2))
        candidates = candidates.view(directions, steps, batch, hidden)
        states = x.new_empty(directions, steps + 1, batch, hidden)
        states[:, 0] = 0.0
        by_step = recurrent.transpose(1, 2)
        to_gates, to_candidate = by_step[..., :both].contiguous(), by_step[..., both:].contiguous()
        c = candidate_bias.unsqueeze(1).expand(directions, batch, hidden).contiguous()
        product = torch.empty_like(c)
        rows = zip(
            gates.unbind(1),
            gates[..., :hidden].unbind(1),
            gates[..., hidden:].unbind(1),
            candidates.unbind(1),
            states.unbind(1)[:-1],
            states.unbind(1)[1:],
            strict=True,
        )
        for gate, reset, update, candidate, before, after in rows:
            torch.baddbmm(gate, before, to_gates, out=gate)
            gate.sigmoid_()
            torch.baddbmm(c, before, to_candidate, out=product)
            candidate.addcmul_(reset, product).tanh_()
            torch.lerp(candidate, before, update, out=after)
        ctx.save_for_backward(x, inner, recurrent, candidate_bias, gates, candidates, states)
        return states[:, 1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the steps, some at a time."""
        x, inner, recurrent, candidate_bias, gates, candidates, states = ctx.saved_tensors
        directions, steps, batch, hidden = candidates.shape
        both = 2 * hidden
        to_candidate = recurrent[:, both:].transpose(1, 2)
        grad_inner = x.new_empty(directions, steps, batch, 3 * hidden)  # of W x + b
        grad_recurrent = torch.zeros_like(recurrent)
        grad_c = torch.zeros_like(candidate_bias)
        carried = x.new_zeros(directions, batch, hidden)
        slopes = x.new_empty(directions, min(CHUNK, steps), batch, 3 * hidden)
        for end in range(steps, 0, -CHUNK):
            start = max(end - CHUNK, 0)
            some = end - start
            r, z = gates[:, start:end].chunk(2, dim=-1)
            n, before = candidates[:, start:end], states[:, start:end]
            flat = before.reshape(directions, some * batch, hidden)
            product = torch.baddbmm(candidate_bias.unsqueeze(1), flat, to_candidate).view_as(n)
            # what a unit of the state's gradient becomes at U h + c of each gate
            slope = slopes[:, :some]
            keep = 1 - z
            to_n = keep * (1 - n * n)
            torch.mul(to_n.mul(product).mul_(r), 1 - r, out=slope[..., :hidden])
            torch.mul((before - n).mul_(keep), z, out=slope[..., hidden:both])
            torch.mul(to_n, r, out=slope[..., both:])
            of_states = grad[:, start:end].clone()
            per_gate = slope.view(directions, some, batch, 3, hidden).unbind(1)
            for gate, whole, state, update in reversed(
                list(zip(per_gate, slope.unbind(1), of_states.unbind(1), z.unbind(1), strict=True))
            ):
                state.add_(carried)
                gate.mul_(state.unsqueeze(-2))  # from here on it is the gradient itself
                carried = torch.baddbmm(state * update, whole, recurrent)
            grad_inner[:, start:end, :, :both] = slope[..., :both]
            torch.mul(to_n, of_states, out=grad_inner[:, start:end, :, both:])
            whole = slope.reshape(directions, some * batch, 3 * hidden)
            grad_recurrent.baddbmm_(whole.transpose(1, 2), flat)
            grad_c += whole[..., both:].sum(dim=1)
        flat_inner = grad_inner.view(directions, steps * batch, 3 * hidden)
        grad_x = torch.bmm(flat_inner, inner).view_as(x) if ctx.needs_input_grad[0] else None
        flat_x = x.reshape(directions, steps * batch, -1)
        return (grad_x, torch.bmm(flat_inner.transpose(1, 2), flat_x), flat_inner.sum(dim=1), grad_recurrent, grad_c)

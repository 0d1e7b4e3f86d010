"""One vector per utterance and modality, as the usual form of LF-DNN, TFN and LMF makes it.

The text goes through an LSTM, the mean of any other modality through dense layers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.nn.dropping import Dropout
from affectus.nn.lstm import LSTM
from affectus.nn.masking import zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.normalization import MaskedBatchNorm
from affectus.nn.pooling import utterance_means
from affectus.vocabulary import TEXT


class MeanNet(nn.Module):
    """Batch normalisation, dropout and three dense layers, upon the mean over an utterance's real steps.

    Args:
        dim: width of the input.
        hidden: width of each layer.
        dropout: share of the normalised input dropped.
    """

    def __init__(self, dim: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(dim)
        self.drop = Dropout(dropout)
        self.layers = nn.ModuleList(Linear(width, hidden) for width in (dim, hidden, hidden))

    def forward(self, mean: Tensor, present: Tensor) -> Tensor:
        """Map (B, dim) to (B, hidden), zero where not ``present`` (B,)."""
        y = self.drop(self.norm(mean, present))
        for layer in self.layers:
            y = torch.relu(layer(y))
        return zero_masked(y, present)


class LastStateNet(nn.Module):
    """LSTM, dropout and a dense layer upon the state after the last real step.

    Args:
        dim: width of the input.
        hidden: size of the LSTM's state.
        out: width of the output.
        dropout: share of that state dropped.
    """

    def __init__(self, dim: int, hidden: int, out: int, *, dropout: float) -> None:
        super().__init__()
        self.recurrent = LSTM(dim, hidden)
        self.drop = Dropout(dropout)
        self.layer = Linear(hidden, out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) and its mask (B, T) to (B, out), zero without a real step."""
        return zero_masked(self.layer(self.drop(self.recurrent.last(x, mask))), mask.any(dim=1))


def subnet_widths(hidden: Mapping[str, int], text_out: int) -> dict[str, int]:
    """Return the width of each modality's vector, before the networks are made: some widths are too many."""
    return {name: text_out if name == TEXT else width for name, width in hidden.items()}


class Subnets(nn.Module):
    """A :class:`LastStateNet` for the text and a :class:`MeanNet` for each other modality.

    Args:
        inputs: width of each modality's vectors.
        hidden: size of each modality's network.
        text_out: width of the text's vector.
        dropout: share dropped in each.
    """

    def __init__(self, inputs: Mapping[str, int], hidden: Mapping[str, int], *, text_out: int, dropout: float) -> None:
        super().__init__()
        self.nets = nn.ModuleDict()
        self.widths = subnet_widths({name: hidden[name] for name in inputs}, text_out)
        for name, dim in inputs.items():
            if name == TEXT:
                self.nets[name] = LastStateNet(dim, hidden[name], text_out, dropout=dropout)
            else:
                self.nets[name] = MeanNet(dim, hidden[name], dropout=dropout)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return each modality's vector (B, width), zero where an utterance lacks it; sequence views."""
        means, present = utterance_means(batch, [name for name in self.nets if name != TEXT])
        found = {}
        for name, net in self.nets.items():
            if name == TEXT:
                found[name] = net(batch.features[name], batch.masks[name] & batch.mask.unsqueeze(1))
            else:
                found[name] = net(means[name], present[name])
        return found

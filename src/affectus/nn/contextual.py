"""The lower half that contextual models share: every utterance of a video seen in the light of the others."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from affectus.nn.dropping import Dropout
from affectus.nn.masking import zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.recurrent import BiGRUs


class ContextualEncoder(nn.Module):
    """Per modality a bidirectional GRU over the utterances, then a dense layer, each followed by dropout.

    Args:
        inputs: width of each modality's vectors.
        hidden: size of the GRU's state per direction.
        dense: width of the dense layer.
        activation: of the dense layer.
        input_dropout: share of each GRU's inputs dropped.
        recurrent_dropout: share of each GRU's state dropped.
        dropout: share dropped after the GRU and after the dense layer.
        context: False replaces the GRU by a dense layer of the same width that sees one utterance alone.
        keras_gru: gates as in Keras 2: piecewise linear, reset gate before the recurrent product.
        repeat_masked: leave what the GRU repeats at masked utterances, as Keras does, instead of zeros.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        hidden: int,
        dense: int,
        activation: Callable[[Tensor], Tensor],
        input_dropout: float,
        recurrent_dropout: float,
        dropout: float,
        context: bool = True,
        keras_gru: bool = False,
        repeat_masked: bool = False,
    ) -> None:
        super().__init__()
        self.activation, self.repeat_masked = activation, repeat_masked
        self.recurrent: BiGRUs | None = None
        self.alone: nn.ModuleDict | None = None
        if context:
            self.recurrent = BiGRUs(
                inputs,
                hidden,
                dropout=input_dropout,
                recurrent_dropout=recurrent_dropout,
                reset_after=not keras_gru,
                hard_gates=keras_gru,
            )
        else:
            self.alone = nn.ModuleDict(
                {
                    name: nn.Sequential(Dropout(input_dropout), Linear(dim, 2 * hidden), nn.Tanh())
                    for name, dim in inputs.items()
                }
            )
        self.dense = nn.ModuleDict({name: Linear(2 * hidden, dense) for name in inputs})
        self.drop = Dropout(dropout)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode.

        Args:
            features: per modality (B, U, dim).
            masks: per modality (B, U) bool.

        Returns:
            Per modality (B, U, dense).
        """
        if self.recurrent is not None:
            hidden = self.recurrent(features, masks)
        else:
            assert self.alone is not None
            hidden = {name: layer(zero_masked(features[name], masks[name])) for name, layer in self.alone.items()}
        dense = {}
        for name, layer in self.dense.items():
            x = self.drop(self.activation(layer(self.drop(hidden[name]))))
            dense[name] = x if self.repeat_masked else zero_masked(x, masks[name])
        return dense

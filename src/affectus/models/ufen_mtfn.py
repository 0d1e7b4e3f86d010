"""UFEN + MTFN: unimodal feature extraction networks and a multi-task fusion network.

Cai, Li, Zhang, Li, Zhu, Rao 2025: Multimodal sentiment analysis based on multi-layer feature fusion and multi-task
learning. Scientific Reports 15:2126, https://doi.org/10.1038/s41598-025-85859-6

Deviations:
    - No code was released, and no width is printed: ``dim`` (d_m, which is also D_e), ``kernels`` (K), ``filters`` (F)
      and ``ffn`` are ours. Table 2 gives the heads and the dropouts, Table 7 the depth.
    - Convolutions are stacked, as Figs 2 and 3 draw them; Eq. (4) read to the letter is ``conv="parallel"``.
    - The self-attention has parameters for each layer; one for all layers of a modality is ``shared_attention``. Its
      result multiplies the convolution's without a sigmoid, as Eq. (5) says.
    - *Unpooling* is a linear layer to the common width, since nothing shortens the sequence; ``unpool="interpolate"``
      lets every convolution halve it and interpolates back.
    - X^fusion stays a sequence until after Eq. (12): as the one vector that Eqs (6) and (7) type, cross-modal attention
      would have a single key. It is averaged over real steps for the heads and after Eq. (12).
    - The encoder-decoder works on the m(m-1) tokens of one utterance; read to the letter, Eq. (14) would attend across
      the batch. The decoder has no self-attention, as Eq. (14) has none. Both have as many heads as the cross-modal
      attention.
    - The heads are linear: the softmax of Eqs (8) and (16) contradicts the squared error of Eq. (18). Every head tells
      every task, classes and emotions too, each with its own loss.
    - The bracket of Eq. (17) is read as one sum of five losses, each of weight 1; with the fused ones inside the sum
      over three modalities they would count three times: ``loss_weights={"fused": 3, "reconstructed": 3}``.
    - Unimodal heads learn the common label, as the text says; ``unimodal_labels="own"`` takes each modality's own label
      where the corpus has it (CH-SIMS), as Fig. 10 suggests.
    - One modality attends to itself; of four or more every ordered pair is used. An utterance that lacks a modality has
      no part in that modality's loss; what attends to the missing one attends to itself, and what the missing one would
      attend to is left out of the encoder-decoder.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError, unknown_name
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_choice, check_share, register_model
from affectus.models.space import DROPOUT, Real, Whole, one_of
from affectus.nn.convolution import MaskedConv1d, stretched
from affectus.nn.crossmodal import CrossModalAttention
from affectus.nn.dropping import Dropout
from affectus.nn.gru import BiGRU
from affectus.nn.masking import masked_mean, zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.multihead import MultiHeadAttention
from affectus.nn.transformer import HalfNormBlock
from affectus.objectives import Task
from affectus.vocabulary import View

FUSED, RECONSTRUCTED = "fused", "reconstructed"
"""The heads beside those of the modalities: Y_m and Y'_m."""


class _UFEN(nn.Module):
    """The unimodal feature extraction network of one modality, Eqs (2) to (7)."""

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        kernels: Sequence[int],
        filters: Sequence[int],
        parallel: bool,
        shared_attention: bool,
        halve: bool,
        recurrent: bool,
        convolution: bool,
        self_attention: bool,
        attention_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.parallel = parallel
        self.recurrent = BiGRU(dim, width // 2) if recurrent else None
        first = width if recurrent else dim
        self.convolutions = nn.ModuleList()
        outputs = [first]  # without a convolution, what was to enter it goes on by itself
        self.factors = [1]
        if convolution:
            outputs, stride = list(filters), 2 if halve else 1
            for layer, (kernel, out) in enumerate(zip(kernels, filters, strict=True)):
                entering = first if parallel or layer == 0 else filters[layer - 1]
                self.convolutions.append(MaskedConv1d(entering, out, kernel, stride=stride))
            self.factors = [stride ** (1 if parallel else layer + 1) for layer in range(len(filters))]
        # Table 2: one head
        gates = [MultiHeadAttention(out, 1, dropout=attention_dropout) for out in outputs] if self_attention else []
        self.gates = nn.ModuleList(gates[:1] if shared_attention else gates)
        self.unpooling = nn.ModuleList(Linear(out, width) for out in outputs)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) to X^fusion (B, T, width), zero where masked."""
        h = zero_masked(x, mask) if self.recurrent is None else self.recurrent(x, mask)  # Eqs (2), (3)
        fusion = torch.zeros((), device=x.device)
        for layer, (y, real) in enumerate(self._layers(h, mask)):
            if self.gates:
                gate = self.gates[layer % len(self.gates)]
                y = y * gate(y, y, real)  # Eq. (5)
            up = self.unpooling[layer](y)  # (B, T_layer, width)
            fusion = fusion + stretched(up, real, x.shape[1], self.factors[layer])  # Eqs (6), (7)
        return zero_masked(self.drop(fusion), mask)

    def _layers(self, h: Tensor, mask: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield X^layer, zero where masked, and its mask: Eq. (4)."""
        if not self.convolutions:
            yield h, mask
        y, real = h, mask
        for convolution in self.convolutions:
            y, real = convolution(h, mask) if self.parallel else convolution(y, real)
            y = zero_masked(torch.relu(y), real)  # (B, T_layer, F_layer)
            yield y, real


@register_model(
    "ufen_mtfn",
    paper=Paper(
        "Cai et al.",
        2025,
        "Multimodal sentiment analysis based on multi-layer feature fusion and multi-task learning",
        "Scientific Reports",
        "https://doi.org/10.1038/s41598-025-85859-6",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "dim": one_of(64, 128, 256),
        "layers": Whole(1, 3),
        "ffn": one_of(128, 256, 512),
        "attention_dropout": Real(0.0, 0.4),
        "dropout": DROPOUT,
    },
    # Table 2, MOSI; the best epoch is the one whose Y'_m is best, whatever the other heads do
    training={
        "optimizer": "adam",
        "learning_rate": 5e-3,
        "batch_size": 32,
        "epochs": 30,
        "patience": 8,
        "select": "task_loss",
    },
    presets={
        "mosi": {"training": {"learning_rate": 5e-3, "batch_size": 32, "epochs": 30, "patience": 8}},
        "mosei": {"training": {"learning_rate": 1e-4, "batch_size": 32, "epochs": 50, "patience": 8}},
        "sims": {"training": {"learning_rate": 5e-3, "batch_size": 16, "epochs": 50, "patience": 8}},
    },
)
class UFENMTFN(Model):
    """Sequences to gated, convolved and summed features; attention between modalities; an encoder-decoder; many heads.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        dim: common width d_m; half of it is the GRU's state per direction.
        layers: convolution layers of each modality.
        conv: ``stacked`` (each on the one before) or ``parallel`` (each on the GRU's output).
        kernels: steps that a convolution sees, odd; one number for all layers or one for each.
        filters: width of a convolution's output; one number for all layers or one for each.
        shared_attention: one self-attention for all layers of a modality; they must be equally wide.
        unpool: ``linear`` (to the common width) or ``interpolate`` (each convolution halves the sequence, which is then
            interpolated back, besides).
        heads: of the cross-modal attention and of the encoder-decoder.
        ffn: width inside the feed-forward parts of the encoder and of the decoder.
        attention_dropout: share of every attention's weights dropped.
        dropout: share dropped of the summed features and inside the feed-forward parts.
        unimodal_labels: ``joint`` (every head learns the common label) or ``own`` (a modality's head learns that
            modality's label, such as ``sentiment_text``, where the corpus has it).
        subtasks: the modalities whose own heads are in the loss (Table 8), [] for none; empty: all.
        loss_weights: factor of each head's loss by the head's name (a modality, fused, reconstructed); 1 if not named.
        self_attention: False leaves out the gates (Table 9).
        convolution: False leaves out the convolutions (Table 9).
        recurrent: False leaves out the GRU (Table 9).
        cross_modal: False averages each modality instead of letting them attend to each other (Table 9).
        encoder_decoder: False predicts by the fused head (Table 9).
        multi_task: False trains the predicting head alone (Table 9).
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        dim: int = 128,
        layers: int = 2,
        conv: str = "stacked",
        kernels: Sequence[int] = (3,),
        filters: Sequence[int] = (64,),
        shared_attention: bool = False,
        unpool: str = "linear",
        heads: int = 4,
        ffn: int = 256,
        attention_dropout: float = 0.2,
        dropout: float = 0.1,
        unimodal_labels: str = "joint",
        subtasks: Sequence[str] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        self_attention: bool = True,
        convolution: bool = True,
        recurrent: bool = True,
        cross_modal: bool = True,
        encoder_decoder: bool = True,
        multi_task: bool = True,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_choice("conv", conv, ("stacked", "parallel"))
        check_choice("unpool", unpool, ("linear", "interpolate"))
        check_choice("unimodal_labels", unimodal_labels, ("joint", "own"))
        check_share("attention_dropout", attention_dropout)
        check_share("dropout", dropout)
        for name in (FUSED, RECONSTRUCTED):
            if name in self.inputs:
                raise AffectusError("A modality has the name of a head", got=name, remedy="Give it another name")
        if dim % 2 or dim % heads:
            raise AffectusError(
                "The option 'dim' does not fit",
                got=f"dim={dim}, heads={heads}",
                expected="an even number that the heads divide",
            )
        widths, sizes = _per_layer("filters", filters, layers), _per_layer("kernels", kernels, layers)
        if any(size % 2 == 0 for size in sizes):
            raise AffectusError("A kernel has no middle", got=f"kernels={list(sizes)}", expected="odd numbers")
        if shared_attention and len(set(widths)) > 1:
            raise AffectusError(
                "One self-attention cannot serve layers of different widths",
                got=f"filters={list(widths)}",
                expected="one width, or shared_attention=false",
            )
        self.unimodal_labels = unimodal_labels
        self.keep_attention = False  # True: forward returns the cross-modal attention weights as well
        self.extract = nn.ModuleDict(
            {
                name: _UFEN(
                    width,
                    dim,
                    kernels=sizes,
                    filters=widths,
                    parallel=conv == "parallel",
                    shared_attention=shared_attention,
                    halve=unpool == "interpolate",
                    recurrent=recurrent,
                    convolution=convolution,
                    self_attention=self_attention,
                    attention_dropout=attention_dropout,
                    dropout=dropout,
                )
                for name, width in self.inputs.items()
            }
        )
        self.project = nn.ModuleDict({name: Linear(dim, dim) for name in self.inputs})
        self.cross_modal: CrossModalAttention | None = None
        tokens = len(self.inputs)
        if cross_modal:
            self.cross_modal = CrossModalAttention(tuple(self.inputs), dim, heads, dropout=attention_dropout)
            tokens = len(self.cross_modal.pairs)
        self.encoder: HalfNormBlock | None = None
        self.decoder: HalfNormBlock | None = None
        if encoder_decoder:
            self.encoder, self.decoder = (
                HalfNormBlock(dim, heads, ffn, attention_dropout=attention_dropout, dropout=dropout) for _ in range(2)
            )
            if tokens == 1:  # a token that can only attend to itself has nothing to ask
                for block in (self.encoder, self.decoder):
                    block.attention.query.requires_grad_(False)
                    block.attention.key.requires_grad_(False)
        self.unimodal_heads = nn.ModuleDict(
            {name: Heads(dim, tasks) for name in _chosen_subtasks(subtasks, self.inputs, multi_task)}
        )
        # without the encoder-decoder the fused head predicts
        self.fused_heads = Heads(tokens * dim, tasks) if multi_task or not encoder_decoder else None
        self.reconstructed_heads = Heads(tokens * dim, tasks) if encoder_decoder else None
        self.head_weights = _head_weights(
            loss_weights,
            [
                *self.unimodal_heads,
                *([FUSED] if self.fused_heads is not None else []),
                *([RECONSTRUCTED] if encoder_decoder else []),
            ],
        )

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task by Y'_m.

        Extras: ``prediction.<modality>.<task>`` and ``prediction.fused.<task>``, what the other heads say (of a missing
        modality nothing that means anything); ``fused`` (B, pairs * dim), what the prediction is made of; with
        ``keep_attention`` set also ``attention.<x>.<y>`` (B, T_x, T_y), where x attends over y, the mean of the heads.
        """
        masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs}
        extras: dict[str, Tensor] = {}
        x: dict[str, Tensor] = {}
        for name, extract in self.extract.items():
            fusion = extract(batch.features[name], masks[name])  # (B, T, dim)
            if name in self.unimodal_heads:
                said = self.unimodal_heads[name](masked_mean(fusion, masks[name]))  # Eq. (8)
                extras |= {f"prediction.{name}.{task}": y for task, y in said.items()}
            x[name] = self.project[name](fusion)  # before Eq. (9): X_i <- W_i X_i + b_i
        if self.cross_modal is None:
            token = torch.stack([masked_mean(x[name], masks[name]) for name in x], dim=1)
            real = torch.stack([mask.any(dim=1) for mask in masks.values()], dim=1)
        else:
            token, real = self.cross_modal(x, masks)  # Eqs (9) to (12): (B, pairs, dim)
            if self.keep_attention:
                with torch.no_grad():
                    weights = self.cross_modal.weights(x, masks)
                extras |= {f"attention.{pair}": matrix for pair, matrix in weights.items()}
        fused = token.flatten(1)  # Eq. (13)
        predictions: dict[str, Tensor] = {}
        if self.fused_heads is not None:
            predictions = self.fused_heads(fused)  # Eq. (16), Y_m
            extras |= {f"prediction.{FUSED}.{task}": y for task, y in predictions.items()}
        if self.reconstructed_heads is not None:
            assert self.encoder is not None
            assert self.decoder is not None
            encoded = self.encoder(token, token, real)
            decoded = self.decoder(token, encoded, real)
            fused = zero_masked(decoded, real).flatten(1)
            predictions = self.reconstructed_heads(fused)  # Eq. (16), Y'_m
        extras["fused"] = fused
        return ModelOutput(predictions, extras)

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return Eq. (17) head by head: ``<task>`` of what is predicted, ``<task>.<head>`` of the others.

        Each bears its head's factor already (``loss_weights``).
        """
        last = FUSED if self.reconstructed_heads is None else RECONSTRUCTED
        found = {}
        for task in self.tasks:
            target = task.target(batch.labels)
            found[task.name] = self.head_weights[last] * task.loss_of(output.predictions[task.name], target)
            others = {name: self._unimodal_target(task, name, batch) for name in self.unimodal_heads}
            if self.fused_heads is not None and last != FUSED:
                others[FUSED] = target
            for head, wanted in others.items():
                loss = task.loss_of(output.extras[f"prediction.{head}.{task.name}"], wanted)  # Eq. (18)
                found[f"{task.name}.{head}"] = self.head_weights[head] * loss
        return found

    def _unimodal_target(self, task: Task, name: str, batch: Batch) -> Tensor:
        """What a modality's head is to say; NaN where the utterance lacks the modality."""
        own = replace(task, scheme=f"{task.scheme}_{name}")
        if self.unimodal_labels == "own" and own.scheme in batch.labels:
            task = own
        there = batch.masks[name].any(dim=1, keepdim=True)
        return task.target(batch.labels).masked_fill(~there, torch.nan)


def _per_layer(name: str, values: Sequence[int], layers: int) -> tuple[int, ...]:
    values = tuple(values)
    if len(values) not in (1, layers) or any(not isinstance(value, int) or value < 1 for value in values):
        raise AffectusError(
            f"The option {name!r} does not fit {layers} layers",
            got=list(values),
            expected="one whole number from 1, or one for each layer",
        )
    return values * layers if len(values) == 1 else values


def _chosen_subtasks(subtasks: Sequence[str] | None, inputs: Mapping[str, int], multi_task: bool) -> tuple[str, ...]:
    """The modalities that have a head of their own, in the model's order."""
    if not multi_task:
        if subtasks:
            raise AffectusError(
                "The options contradict each other",
                got=f"multi_task=false, subtasks={list(subtasks)}",
                expected="no subtasks where one head alone is trained",
            )
        return ()
    if subtasks is None:
        return tuple(inputs)
    chosen = (subtasks,) if isinstance(subtasks, str) else tuple(subtasks)
    for name in chosen:
        if name not in inputs:
            raise unknown_name("modality", str(name), inputs, where="the option 'subtasks'")
    return tuple(name for name in inputs if name in chosen)


def _head_weights(given: Mapping[str, float] | None, heads: Sequence[str]) -> dict[str, float]:
    if given is not None and not isinstance(given, Mapping):
        raise AffectusError(
            "The option 'loss_weights' is no mapping", got=repr(given), expected="for instance {fused: 3, text: 0.5}"
        )
    for name, weight in (given or {}).items():
        if name not in heads:
            raise unknown_name("head", str(name), heads, where="the option 'loss_weights'")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise AffectusError(f"The weight of the head {name!r} must be a positive number", got=repr(weight))
    return {name: float((given or {}).get(name, 1.0)) for name in heads}

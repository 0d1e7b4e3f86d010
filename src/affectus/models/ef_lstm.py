"""EF-LSTM: early fusion, an LSTM over the concatenated features.

Williams, Kleinegesse, Comanescu, Radu 2018: Recognizing Emotions in Video Using Multimodal DNN Feature Fusion.
Challenge-HML at ACL 2018, https://aclanthology.org/W18-3302

The name is used for two things. ``variant="mmsa"`` is the form of the MMSA framework, whose figures later papers quote:
normalisation of each step, an LSTM of one direction. ``variant="original"`` is the article's: normalisation of each
feature, bidirectional LSTMs.

Deviations:
    - The normalisation's statistics are over real values, and the LSTM skips padding. MMSA normalises padding too, with
      statistics for each of a fixed number of steps (``steps``; here later steps share the last one's), and its LSTM
      ends wherever the padding does. The released code puts zeros before short sequences and cuts long ones.
    - A modality that a step lacks is zero in the concatenation. One, two, four or more modalities are concatenated as
      the three are.
    - Unaligned sequences are brought into step first: as many steps as the text has (without text, as the shortest
      modality has), each the mean over that part of the other modality. MMSA does so for CH-SIMS, but its means are of
      every so-many-th step of the whole utterance.
    - original: the number of layers (1 to 3) and the dropout (0.1 or 0.2) were swept; two layers and 0.2 are ours.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_choice, check_share, register_model
from affectus.models.space import DROPOUT, Whole, one_of
from affectus.nn.dropping import Dropout
from affectus.nn.lstm import LSTM
from affectus.nn.masking import zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.normalization import MaskedBatchNorm, StepBatchNorm
from affectus.nn.packing import Packing
from affectus.nn.precision import single
from affectus.nn.stepping import in_step
from affectus.objectives import Task
from affectus.vocabulary import View


@register_model(
    "ef_lstm",
    paper=Paper(
        "Williams et al.",
        2018,
        "Recognizing Emotions in Video Using Multimodal DNN Feature Fusion",
        "Challenge-HML",
        "https://aclanthology.org/W18-3302",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(32, 64, 128, 256),
        "layers": Whole(1, 4),
        "dense": one_of(32, 64, 128, 256),
        "dropout": DROPOUT,
    },
    training={
        "learning_rate": 1e-3,
        "weight_decay": 5e-3,
        "batch_size": 32,
        "epochs": 200,
        "patience": 8,
        "real_loss": "l1",
    },
    presets={
        "mosi": {
            "options": {"hidden": 128, "layers": 4, "dense": 128, "dropout": 0.5},
            "training": {"learning_rate": 1e-3, "weight_decay": 5e-3, "batch_size": 32},
        },
        "mosei": {
            "options": {"hidden": 256, "layers": 2, "dense": 256, "dropout": 0.4},
            "training": {"learning_rate": 5e-3, "weight_decay": 1e-4, "batch_size": 128},
        },
        "sims": {
            "options": {"hidden": 32, "layers": 3, "dense": 32, "dropout": 0.5, "steps": 39},
            "training": {"learning_rate": 5e-4, "weight_decay": 1e-3, "batch_size": 128},
        },
        "original": {
            "options": {"variant": "original", "hidden": 64, "layers": 2, "dense": 100, "dropout": 0.2},
            "training": {"weight_decay": 0.0, "batch_size": 64, "patience": 10, "scale": "max"},
        },
    },
)
class EFLSTM(Model):
    """All modalities concatenated step by step, normalised, and read by LSTMs, one upon the other.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        variant: ``mmsa`` or ``original``; see above.
        hidden: size of the LSTM's state (original: per direction).
        layers: LSTMs, one upon the other.
        dense: width of the layer after them.
        steps: that the normalisation tells apart (mmsa).
        dropout: share dropped after each LSTM and after the dense layer.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        variant: str = "mmsa",
        hidden: int = 128,
        layers: int = 4,
        dense: int = 128,
        steps: int = 50,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_choice("variant", variant, ("mmsa", "original"))
        check_share("dropout", dropout)
        width = sum(self.inputs.values())
        self.norm: StepBatchNorm | nn.ModuleDict
        if variant == "mmsa":
            self.norm = StepBatchNorm(steps)
        else:
            self.norm = nn.ModuleDict({name: MaskedBatchNorm(dim) for name, dim in self.inputs.items()})
        self.recurrent = LSTM(width, hidden, layers=layers, dropout=dropout, bidirectional=variant == "original")
        self.drop = Dropout(dropout)
        self.dense = Linear(self.recurrent.width, dense)
        self.heads = Heads(dense, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (B, width), the last state."""
        masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs}
        features, masks = in_step({name: batch.features[name] for name in masks}, masks, batch.view, zeros=False)
        packing = Packing(torch.stack(list(masks.values())).any(dim=0))
        affine = None
        if isinstance(self.norm, StepBatchNorm):
            if _all_are_there(masks, packing):
                rows = single(packing.pack_together([features[name] for name in self.inputs]))
                # one number for a row goes through the first product, which is the largest here
                affine = self.norm.affine(rows, packing.steps, None)
            else:
                real = [packing.pack(masks[name].unsqueeze(-1)).expand(-1, dim) for name, dim in self.inputs.items()]
                zeroed = [zero_masked(features[name], masks[name]) for name in self.inputs]
                rows = single(packing.pack_together(zeroed))
                rows = self.norm(rows, packing.steps, torch.cat(real, dim=1))
        else:
            normalised = [self.norm[name](x, masks[name]) for name, x in features.items()]
            rows = packing.pack(torch.cat(normalised, dim=-1))
        fused = self.recurrent.last_of(self.recurrent.rows(rows, packing, affine), packing)
        y = self.drop(torch.relu(self.dense(self.drop(fused))))
        return ModelOutput(self.heads(y), {"fused": fused})


def _all_are_there(masks: Mapping[str, Tensor], packing: Packing) -> bool:
    """True where every modality has every step, as far as that may be asked."""
    if packing.padded or packing.mask.is_cuda:
        return False
    return bool(torch.stack([mask == packing.mask for mask in masks.values()]).all())

"""Starting from what another run learned: weights of the same name and shape, and the scaling that they expect.

Only parameters and the statistics of normalisation layers are taken. What a model remembers of single utterances (the
labels that Self-MM generates, the memories of MMIM) belongs to the corpus on which it was made, and stays there.

A weight that reads a feature was learned on features scaled by the source's mean and deviation. A modality that comes
from the same text encoder, or that is as wide in both runs, is therefore scaled as in the source; the others by the
new corpus's own statistics. ``scaling="own"`` fits them all anew, which is right where two corpora have features of
the same width from different extractors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from torch import nn

from affectus.batches import Scaler
from affectus.errors import AffectusError
from affectus.files import sha256
from affectus.models import MODELS, Estimator, Model
from affectus.models.with_text import TextModel
from affectus.vocabulary import TEXT

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""The buffers that are taken, by the last part of their names."""
WRAPPED = "model."
"""What stands before a model's names where a trained text encoder stands before the model."""
FAR = 3.0
"""Deviations between the two corpora's means from which on features look otherwise than in the source."""


class InitScaling(StrEnum):
    """Whose statistics scale the features of a run that starts from another."""

    SOURCE = "source"
    OWN = "own"


class InitRecord(BaseModel):
    """What ``run.json`` says of the run that this one started from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    corpus: str
    corpus_sha256: str | None
    weights: dict[str, str]
    """Per seed, the source's file and the beginning of its SHA-256."""
    taken: list[str]
    """Names of the weights that were taken."""
    left: dict[str, str]
    """Names of the weights that were not, and why."""
    numbers: int
    """How many numbers were taken."""
    of_numbers: int
    """How many the model has."""
    scaling: dict[str, str]
    """Per modality, whose statistics scale it: source or own."""


@dataclass(frozen=True, eq=False)
class Source:
    """A run from which another starts.

    Attributes:
        folder: where it lies.
        model: its model.
        corpus: the name of its corpus.
        corpus_sha256: the hash of its corpus, if it was told.
        seeds: those that are trained.
        tasks: their names.
        per_task: whether each task has the weights of an epoch of its own.
        scaler: its feature scaling.
        text: what tells its text encoder from others; None without one.
        scaling: whose statistics are wanted.
    """

    folder: Path
    model: str
    corpus: str
    corpus_sha256: str | None
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    per_task: bool
    scaler: Scaler
    text: str | None
    scaling: InitScaling

    def weights(self, seed: int, tasks: Sequence[str]) -> Path:
        """Return the file from which a seed of the new run starts: the same seed's, or that of one of the others.

        With an epoch for each task, the weights are those of the first task that both runs have, else of the first.

        Args:
            seed: of the new run.
            tasks: of the new run.
        """
        other = seed if seed in self.seeds else self.seeds[seed % len(self.seeds)]
        shared = [task for task in tasks if task in self.tasks] or list(self.tasks)
        name = f"model.{shared[0]}.safetensors" if self.per_task else "model.safetensors"
        return self.folder / f"seed-{other}" / name


def record_start(
    source: Source, name: str, model: object, seeds: Sequence[int], whose: Mapping[str, str]
) -> InitRecord:
    """Say what a model takes from a source, for ``run.json``; the model itself is changed.

    Args:
        source: the run that it starts from.
        name: of the model.
        model: built, untrained.
        seeds: of the new run.
        whose: per modality, whose statistics scale it.

    Raises:
        AffectusError: the model is not trained by gradient, or nothing of the source fits it.
    """
    model = check_startable(name, model)
    tasks = [task.name for task in model.tasks]
    files = {seed: source.weights(seed, tasks) for seed in seeds}
    taken, left = transfer_weights(model, files[seeds[0]])
    if not taken:
        raise AffectusError(
            "Nothing of the run fits the model",
            where=source.folder,
            got=f"a run of {source.model!r} for a model {name!r}",
            expected="weights of the same names and shapes",
            remedy="Start from a run of the same model with the same options",
        )
    return InitRecord(
        model=source.model,
        corpus=source.corpus,
        corpus_sha256=source.corpus_sha256,
        weights={
            str(seed): f"{path.parent.name}/{path.name} {sha256(path)[:16]}" for seed, path in sorted(files.items())
        },
        taken=taken,
        left=left,
        numbers=count_numbers(model, taken),
        of_numbers=count_numbers(model),
        scaling=dict(whose),
    )


def transfer_weights(model: Model, path: Path) -> tuple[list[str], dict[str, str]]:
    """Copy into a model every weight of a file that has its name and shape.

    A model before which a text encoder is trained has its names behind ``model.``; they find those of a model without.

    Returns:
        The names taken; those left, each with the reason.

    Raises:
        AffectusError: the file is absent or damaged.
    """
    own = _weights_of(model)
    taken, left = [], {}
    try:
        with safe_open(path, framework="pt") as stored, torch.no_grad():
            known = {name.removeprefix(WRAPPED): name for name in stored.keys()}  # noqa: SIM118
            for name, tensor in own.items():
                plain = name.removeprefix(WRAPPED) if isinstance(model, TextModel) else name
                if plain not in known:
                    left[name] = "the run has none of this name"
                    continue
                shape = tuple(stored.get_slice(known[plain]).get_shape())
                if shape != tuple(tensor.shape):
                    left[name] = f"{_by(tensor.shape)} here, {_by(shape)} in the run"
                    continue
                tensor.copy_(stored.get_tensor(known[plain]))
                taken.append(name)
    except FileNotFoundError:
        raise AffectusError(
            "There are no weights to start from", where=path, remedy="Train the source run again"
        ) from None
    except SafetensorError as error:
        raise AffectusError("Not a whole safetensors file", where=path, got=error) from None
    return taken, left


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters, and the statistics of normalisation layers."""
    found: dict[str, torch.Tensor] = dict(model.named_parameters())
    found |= {name: b for name, b in model.named_buffers() if name.rpartition(".")[2] in STATISTICS}
    return found


def check_startable(name: str, model: object) -> Model:
    """Return the model, if there are weights that it could start from.

    Raises:
        AffectusError: it is not trained by gradient.
    """
    if isinstance(model, Model) and not issubclass(MODELS[name].build, Estimator):
        return model
    raise AffectusError(
        f"The model {name!r} is not trained by gradient, so it cannot start from another run's weights",
        remedy="Leave --init-from out, or choose another model",
    )


def whose_scaling(source: Source, inputs: Mapping[str, int], text: str | None) -> dict[str, str]:
    """Return per modality whose statistics scale it: ``source`` or ``own``.

    Args:
        source: the run that is started from.
        inputs: width of each modality of the new run.
        text: what tells the new run's text encoder from others; None without one.
    """
    whose = {}
    for name, dim in inputs.items():
        shift = source.scaler.shift.get(name)
        alike = shift is not None and len(shift) == dim and (name != TEXT or text == source.text)
        whose[name] = str(InitScaling.SOURCE if alike and source.scaling is InitScaling.SOURCE else InitScaling.OWN)
    return whose


def join_scaling(own: Scaler, source: Scaler, whose: Mapping[str, str]) -> Scaler:
    """Return the scaling of a run that starts from another: each modality's own, or the source's."""
    kept = [name for name, of in whose.items() if of == InitScaling.SOURCE]
    return Scaler(
        {**own.shift, **{name: source.shift[name] for name in kept}},
        {**own.factor, **{name: source.factor[name] for name in kept}},
    )


def far_apart(own: Scaler, source: Scaler, whose: Mapping[str, str]) -> dict[str, float]:
    """Return the modalities, scaled as in the source, whose features look otherwise here, and by how many deviations.

    That is the median over the columns of the distance of the two means, in the source's deviations.
    """
    found = {}
    for name, of in whose.items():
        if of != InitScaling.SOURCE:
            continue
        used = source.factor[name] > 0
        if used.any():
            apart = np.abs(own.shift[name] - source.shift[name])[used] * source.factor[name][used]
            if float(np.median(apart)) > FAR:
                found[name] = float(np.median(apart))
    return found


def count_numbers(model: nn.Module, names: Sequence[str] | None = None) -> int:
    """Return how many numbers a model's weights have, or those of some names."""
    weights = _weights_of(model)
    return sum(weights[name].numel() for name in (weights if names is None else names))


def describe(record: InitRecord, *, shown: int = 5) -> list[str]:
    """Say in lines what was taken from the source and what was not."""
    lines = [
        f"Started from {record.model} trained on {record.corpus}: {len(record.taken)} of "
        f"{len(record.taken) + len(record.left)} weights taken, {record.numbers:,} of {record.of_numbers:,} numbers"
    ]
    some = list(record.left.items())[:shown]
    if some:
        more = f"; {len(record.left) - shown} more in run.json" if len(record.left) > shown else ""
        lines.append("Not taken: " + "; ".join(f"{name} ({why})" for name, why in some) + more)
    kept = [name for name, of in record.scaling.items() if of == InitScaling.SOURCE]
    fitted = [name for name, of in record.scaling.items() if of == InitScaling.OWN]
    parts = [
        f"{', '.join(kept)} as in the source" if kept else "",
        f"{', '.join(fitted)} fitted here" if fitted else "",
    ]
    lines.append("Scaling: " + "; ".join(part for part in parts if part))
    return lines

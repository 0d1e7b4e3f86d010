"""What a model makes of each modality by itself, and the representation it decides by.

A model with heads of its own for single modalities gives their outputs as extras, ``prediction.<modality>.<task>`` or
``unimodal.<modality>.<task>``; ``prediction.fused.<task>`` is a head over all of them that is not the last word. Any
other model is asked again with all modalities hidden but one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from affectus.batches import Batch
from affectus.corpus import Corpus
from affectus.models import Model, ModelOutput
from affectus.models.base import AnyModel
from affectus.objectives import Task
from affectus.training.inference import PerTask
from affectus.training.loading import Run

FloatArray = npt.NDArray[np.float32]

PREFIXES = ("prediction", "unimodal")
FUSED, FINAL = "fused", "final"


@dataclass(frozen=True, eq=False)
class Inside:
    """One model's inner figures for n utterances, in the order of the corpus's table.

    Attributes:
        source: ``own`` if the model has a head per modality, ``hidden`` if the others were hidden, None if neither is
            of use.
        heads: per modality, then ``fused`` where the model has such a head, per task (n, outputs) of probabilities, or
            the numbers themselves for real tasks; NaN where the utterance lacks the modality.
        fused: (n, width), the representation; None if the model gives none.
    """

    source: str | None
    heads: dict[str, dict[str, FloatArray]]
    fused: FloatArray | None


def look_inside(run: Run, model: AnyModel, corpus: Corpus, split: str, tasks: Sequence[Task]) -> Inside:
    """Run a model over a split and keep what it says besides its predictions.

    Args:
        run: the model's.
        model: trained.
        corpus: that fits the run.
        split: of it.
        tasks: those of the run whose heads are of interest; without any, the representation alone is kept.
    """
    modalities = run.config.modalities
    rows: list[Tensor] = []
    fused: list[Tensor] = []
    heads: dict[tuple[str, str], list[Tensor]] = {}
    source: str | None = None
    if isinstance(model, Model):
        model.eval()
    with torch.inference_mode():
        for number, batch in enumerate(run.batches(corpus, split)):
            output, *outputs = _ask(model, batch, tasks)
            if not number:
                source = _source(outputs, modalities, tasks, batch)
            rows.append(batch.rows[batch.mask])
            if _fits(output.extras.get(FUSED), batch):
                fused.append(output.extras[FUSED][batch.mask].float())
            if source is not None:
                for head, task, said, there in _heads(source, model, outputs, batch, modalities, tasks):
                    values = task.probabilities(said.float())[batch.mask]
                    known = there[batch.mask].unsqueeze(-1)
                    heads.setdefault((head, task.name), []).append(torch.where(known, values, torch.nan))
    order = torch.cat(rows).argsort()
    found: dict[str, dict[str, FloatArray]] = {}
    for (head, name), parts in heads.items():
        found.setdefault(head, {})[name] = torch.cat(parts)[order].numpy()
    return Inside(source, found, torch.cat(fused)[order].numpy() if len(fused) == len(rows) else None)


def _ask(model: AnyModel, batch: Batch, tasks: Sequence[Task]) -> list[ModelOutput]:
    """Return the model's output, then the one that holds for each of the tasks."""
    output = model(batch)
    if isinstance(model, PerTask):  # each task has weights of its own, and so have its heads
        return [output, *(model.models[task.name](batch) for task in tasks)]
    return [output, *([output] * len(tasks))]


def _fits(extra: Tensor | None, batch: Batch) -> bool:
    """True for a tensor with one vector per utterance."""
    return extra is not None and extra.shape[:-1] == batch.mask.shape


def _extra(output: ModelOutput, head: str, task: Task, batch: Batch) -> Tensor | None:
    """What the model's own head says of a task; None if it has no such head."""
    names = (f"{prefix}.{head}.{task.name}" for prefix in PREFIXES)
    return next((output.extras[name] for name in names if _fits(output.extras.get(name), batch)), None)


def _source(
    outputs: Sequence[ModelOutput], modalities: Sequence[str], tasks: Sequence[Task], batch: Batch
) -> str | None:
    if not tasks:
        return None
    pairs = zip(outputs, tasks, strict=True)
    if all(_extra(output, name, task, batch) is not None for output, task in pairs for name in modalities):
        return "own"
    return "hidden" if len(modalities) > 1 else None


def _heads(
    source: str,
    model: AnyModel,
    outputs: Sequence[ModelOutput],
    batch: Batch,
    modalities: Sequence[str],
    tasks: Sequence[Task],
) -> Iterator[tuple[str, Task, Tensor, Tensor]]:
    """Yield head, task, outputs, and which utterances have the modality."""
    for name in modalities:
        there = _present(batch, name)
        if source == "hidden":
            alone = model(batch.without(*(other for other in modalities if other != name)))
            yield from ((name, task, alone.predictions[task.name], there) for task in tasks)
        else:
            yield from _own_heads(name, outputs, tasks, batch, there)
    if source == "own":
        yield from _own_heads(FUSED, outputs, tasks, batch, batch.mask)


def _own_heads(
    head: str, outputs: Sequence[ModelOutput], tasks: Sequence[Task], batch: Batch, there: Tensor
) -> Iterator[tuple[str, Task, Tensor, Tensor]]:
    for output, task in zip(outputs, tasks, strict=True):
        said = _extra(output, head, task, batch)
        if said is not None:
            yield head, task, said, there


def _present(batch: Batch, modality: str) -> Tensor:
    """Which utterances have the modality, in the shape of the batch's mask."""
    mask, own = batch.masks[modality], batch.mask.dim()
    return mask if mask.dim() == own else mask.flatten(own).any(dim=-1)

"""Learning from utterances without labels, beside those that have them.

Two methods, each a term that is added to the loss of every training step, computed on a batch of the unlabelled corpus:

``consistency``
    A teacher, the moving average of the model's weights, and the model itself are to say the same of an utterance: the
    mean squared distance of their probabilities (of a number: of the numbers), the model with its dropout and hidden
    modalities, the teacher without. Tarvainen and Valpola 2017: Mean teachers are better role models. NeurIPS 2017,
    https://arxiv.org/abs/1703.01780
``pseudo_labels``
    What the model itself says without dropout is taken for the label, where it is sure enough: the most probable class,
    or the presence or absence of each of several. Lee 2013: Pseudo-Label: The Simple and Efficient Semi-Supervised
    Learning Method for Deep Neural Networks. ICML workshop 2013. The threshold is that of FixMatch (Sohn et al. 2020,
    https://arxiv.org/abs/2001.07685), which Lee has not. A number's pseudo-label is the predicted number, which teaches
    what dropout and hidden modalities hide and nothing else.

The term's weight rises over the first epochs by exp(-5 (1 - t)^2) (Laine and Aila 2017, https://arxiv.org/abs/1610.02242),
since a model that knows nothing yet has nothing to tell. Of a model's own losses only those of its predictions take
part. Labels of the unlabelled corpus are never read; of a corpus with a train split, that alone is seen.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from affectus.batches import Batch, Loader
from affectus.batches.corruption import hide_modalities
from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.models import Model
from affectus.objectives import Task, TaskKind
from affectus.training.config import TrainingSettings, UnlabelledMethod
from affectus.training.mixed import run_model
from affectus.vocabulary import TEXT, Split

SUFFIX = "unlabelled"
"""What stands behind a task's name in the name of its loss on unlabelled utterances."""


class Unlabelled:
    """The term of one stage of one model's training.

    Args:
        model: what is trained.
        loader: of the unlabelled utterances.
        settings: of the run.
    """

    def __init__(self, model: Model, loader: Loader, settings: TrainingSettings) -> None:
        self.model, self.loader, self.settings = model, loader, settings
        self.teacher: Model | None = None
        if settings.unlabelled_method is UnlabelledMethod.CONSISTENCY:
            self.teacher = copy.deepcopy(model).requires_grad_(False).eval()
        self.steps = 0
        self._batches: Iterator[Batch] = iter(())

    def start_epoch(self, epoch: int, device: torch.device) -> None:
        """Begin with this epoch's order, which depends on the seed and the epoch alone."""
        if self.teacher is not None:
            self.teacher.to(device)
        self._batches = self._endless(epoch)

    def _endless(self, epoch: int) -> Iterator[Batch]:
        round_ = 0
        while True:
            self.loader.set_epoch(epoch + 1_000_003 * round_)
            yield from self.loader
            round_ += 1

    def weight(self, epoch: float) -> float:
        """Return the term's weight after so many epochs."""
        done = min(epoch / self.settings.unlabelled_rampup, 1.0) if self.settings.unlabelled_rampup else 1.0
        return self.settings.unlabelled_weight * math.exp(-5.0 * (1.0 - done) ** 2)

    def losses(self, epoch: float, device: torch.device, hiding: torch.Generator) -> dict[str, Tensor]:
        """Return the weighed losses of the next batch, by task.

        Args:
            epoch: epochs done, with a fraction.
            device: where the model is.
            hiding: draws which modalities are hidden from the model.
        """
        batch = next(self._batches).to(device)
        said = self._teach(batch)
        seen = (
            hide_modalities(batch, self.settings.modality_dropout, hiding) if self.settings.modality_dropout else batch
        )
        predictions = run_model(self.model, seen, self.settings.precision).predictions
        weight = self.weight(epoch)
        return {
            f"{task.name}.{SUFFIX}": weight * self._loss(task, predictions[task.name], said[task.name], batch.mask)
            for task in self.model.tasks
        }

    def _teach(self, batch: Batch) -> Mapping[str, Tensor]:
        teacher = self.model if self.teacher is None else self.teacher
        training = teacher.training
        teacher.eval()
        with torch.no_grad():
            predictions: Mapping[str, Tensor] = teacher(batch).predictions
        teacher.train(training and teacher is self.model)
        return predictions

    def _loss(self, task: Task, prediction: Tensor, said: Tensor, mask: Tensor) -> Tensor:
        told = task.probabilities(said)
        if self.settings.unlabelled_method is UnlabelledMethod.CONSISTENCY:
            # the mean over what there is to say, as the losses of labels are
            distance = ((task.probabilities(prediction) - told) ** 2).mean(dim=-1)
            return (distance * mask).sum() / mask.sum().clamp(min=1)
        return task.loss_of(prediction, pseudo_target(task, told, mask, self.settings.pseudo_confidence))

    def update(self) -> None:
        """Let the teacher follow the model, after a step."""
        self.steps += 1
        if self.teacher is None:
            return
        # at first the average is over what there was, as in the article's code
        decay = min(self.settings.teacher_decay, self.steps / (self.steps + 1))
        with torch.no_grad():
            weights = [parameter.detach() for parameter in self.model.parameters()]
            torch._foreach_lerp_(list(self.teacher.parameters()), weights, 1 - decay)
            for buffer, current in zip(self.teacher.buffers(), self.model.buffers(), strict=True):
                if buffer.shape == current.shape:
                    buffer.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        teacher = None if self.teacher is None else self.teacher.state_dict()
        return {"steps": self.steps, "teacher": teacher}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.steps = state["steps"]
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])


def pseudo_target(task: Task, probabilities: Tensor, mask: Tensor, confidence: float) -> Tensor:
    """Return the target (..., values) that a task's loss wants, NaN where nobody is sure or nothing is there.

    Args:
        task: the task.
        probabilities: (..., outputs); of a number the number.
        mask: (...) bool.
        confidence: of the class that is told, at least.

    >>> polarity = Task("polarity", "sentiment", TaskKind.BINARY, ("negative", "positive"))
    >>> said = torch.tensor([[0.02, 0.98], [0.4, 0.6]])
    >>> pseudo_target(polarity, said, torch.tensor([True, True]), 0.95).squeeze(1).tolist()
    [1.0, nan]
    """
    if task.kind is TaskKind.REAL:
        target = probabilities.clone()
        sure = torch.ones_like(target, dtype=torch.bool)
    elif task.kind is TaskKind.MULTI_LABEL:
        target = (probabilities >= 0.5).to(probabilities)
        sure = torch.maximum(probabilities, 1 - probabilities) >= confidence
    else:
        best, index = probabilities.max(dim=-1, keepdim=True)
        target, sure = index.to(probabilities), best >= confidence
    target[~(sure & mask.unsqueeze(-1))] = torch.nan
    return target


def unlabelled_split(corpus: Corpus) -> str | None:
    """Return the split that is learned from: train, if the corpus has one; else all."""
    return str(Split.TRAIN) if (corpus.splits == Split.TRAIN).any() else None


def check_unlabelled(corpus: Corpus, inputs: Mapping[str, int], *, encoded: bool) -> None:
    """Check that a corpus without labels has what the model reads.

    Args:
        corpus: without labels.
        inputs: the model's modalities and their widths.
        encoded: whether the text is made from transcripts.

    Raises:
        AffectusError: names what does not fit.
    """
    for name, dim in inputs.items():
        if name == TEXT and encoded:
            continue
        if name not in corpus.modalities:
            raise AffectusError(
                f"The unlabelled corpus {corpus.name!r} lacks the modality {name!r}",
                got=", ".join(corpus.modalities) or "no features",
                expected=", ".join(inputs),
                remedy="Train with --modalities that both corpora have",
            )
        if corpus.dims[name] != dim:
            raise AffectusError(
                f"The modality {name!r} of the unlabelled corpus {corpus.name!r} has another width",
                got=corpus.dims[name],
                expected=str(dim),
                remedy="Extract its features as for the labelled corpus",
            )

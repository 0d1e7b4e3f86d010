"""The contract between a model and everything around it, and the list of models."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError, unknown_name
from affectus.models.space import TRAINING_SPACE, Axis, Space
from affectus.nn.matmul import Linear
from affectus.objectives import Task, TaskKind
from affectus.registry import Registry
from affectus.vocabulary import TEXT, View


@dataclass(frozen=True)
class Paper:
    """Where a model was published."""

    authors: str
    year: int
    title: str
    venue: str
    url: str

    @property
    def short(self) -> str:
        """``Akhtar et al. 2019``."""
        return f"{self.authors} {self.year}"


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """What a model returns.

    Attributes:
        predictions: per task (..., outputs): logits, or numbers for real tasks. Contextual: (B, U, outputs).
        extras: named tensors besides: attention weights, representations, reconstructions.
        read: the batch as the model saw it, where that is another than it was given: text tokens became vectors.
    """

    predictions: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)
    read: Batch | None = None


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters with an optimiser setting of their own; None means the run's setting."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of training with parameters of its own.

    Attributes:
        name: of the stage; the model's ``stage`` attribute holds it while it runs.
        groups: the parameters that this stage trains, by name.
        epochs: at most so many; None for the run's setting.
        select: pick the best epoch on valid (else the last one counts).
        trains_text: whether the stage learns from the text, so that a text encoder before the model learns with it.
        before: passes over train within each epoch, before the stage's own, each with an optimiser of its own; of these
            stages the name, the groups, ``trains_text`` and ``share`` count.
        share: of the batches that such a pass sees.
    """

    name: str
    groups: Mapping[str, ParameterGroup]
    epochs: int | None = None
    select: bool = True
    trains_text: bool = True
    before: Sequence["Stage"] = ()
    share: float = 1.0

    @property
    def passes(self) -> tuple["Stage", ...]:
        """The passes over train that make an epoch, in their order; the stage itself is the last."""
        return (*self.before, self)


class Model(nn.Module):
    """A model trained by gradient.

    A subclass has a keyword-only constructor whose first two arguments are ``inputs`` (width of each modality) and
    ``tasks``; all others are options with defaults.

    Args:
        inputs: width of each modality's vectors, in affectus's order.
        tasks: what to predict.
    """

    whole_batch: ClassVar[str | None] = None
    """Why workers cannot each learn from a part of a batch, if they cannot: "it compares the utterances of a batch"."""

    def __init__(self, *, inputs: Mapping[str, int], tasks: Sequence[Task]) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        self.tasks = tuple(tasks)
        self.stage: str = "main"
        self.register_forward_pre_hook(_check_batch)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task for a batch.

        Raises:
            AffectusError: the batch lacks a modality, or has another width than in training.
        """
        raise NotImplementedError

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the named losses of a batch: one per task, unless a model has others. The loop weighs and adds them.

        A loss is weighed by a task's weight where its name is the task's, or that and a dot and more; else by 1.
        """
        return {
            task.name: task.loss_of(output.predictions[task.name], task.target(batch.labels)) for task in self.tasks
        }

    def stages(self) -> list[Stage]:
        """Return the stages of training; one that trains everything, unless a model has its own."""
        return [Stage("main", {"all": ParameterGroup(list(self.parameters()))})]

    def on_batch_end(self, output: ModelOutput, batch: Batch) -> None:
        """Remember what the model remembers of a training batch, after its losses were taken."""

    def on_epoch_end(self, epoch: int) -> None:
        """Do what the model does between epochs; state kept for it belongs in buffers or ``get_extra_state``."""

    def parameter_count(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


class Estimator:
    """A model that is not trained by gradient. It sees the same batches and gives the same output.

    Args:
        inputs: width of each modality's vectors, in affectus's order.
        tasks: what to predict.
    """

    def __init__(self, *, inputs: Mapping[str, int], tasks: Sequence[Task]) -> None:
        self.inputs = dict(inputs)
        self.tasks = tuple(tasks)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn from all training batches."""
        raise NotImplementedError

    def __call__(self, batch: Batch) -> ModelOutput:
        """Predict every task for a batch, as :class:`Model` does.

        Raises:
            AffectusError: the batch lacks a modality, or has another width than in training.
        """
        raise NotImplementedError

    def arrays(self) -> dict[str, Tensor]:
        """Return all that was learned, as named tensors; stored as safetensors."""
        raise NotImplementedError

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`arrays` returned.

        Raises:
            KeyError, ValueError: the arrays are another model's; :func:`affectus.models.storage.load_weights` says so.
        """
        raise NotImplementedError


AnyModel = Model | Estimator


@dataclass(frozen=True)
class Option:
    """An option of a model: its name, type as written, default, and the line that documents it."""

    name: str
    annotation: str
    default: Any
    help: str


@dataclass(frozen=True)
class ModelEntry:
    """A registered model.

    Attributes:
        name: in the registry and on the command line.
        build: the class.
        paper: where it was published; None for a plain baseline.
        views: every view that it accepts.
        training: published training settings (keys of the training configuration), over which the user's go.
        presets: named sets of options: ``{"options": {...}, "training": {...}}`` with what changes, and under
            ``"breaks"`` the names of the contracts (``affectus.testing``) that the preset does not keep.
        kinds: the kinds of task that it can learn.
        breaks: the names of the contracts that the published method itself does not keep.
        space: what tuning searches of its options and training settings (``affectus.models.space``).
    """

    name: str
    build: type[AnyModel]
    paper: Paper | None
    views: frozenset[View]
    training: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    kinds: frozenset[TaskKind] = frozenset(TaskKind)
    breaks: tuple[str, ...] = ()
    space: Space = field(default_factory=dict)

    @property
    def search_space(self) -> dict[str, Axis]:
        """What tuning searches: the model's own axes, and the usual ones of training by gradient."""
        usual = TRAINING_SPACE if issubclass(self.build, Model) else {}
        return {**usual, **self.space}

    @property
    def options(self) -> dict[str, Option]:
        """The model's options by name, from its constructor's signature and docstring."""
        helps = _argument_help(self.build.__doc__ or "")
        found = {}
        for name, parameter in inspect.signature(self.build).parameters.items():
            if name not in ("inputs", "tasks"):
                annotation = parameter.annotation
                shown = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
                found[name] = Option(name, shown, parameter.default, helps.get(name, ""))
        return found

    @property
    def summary(self) -> str:
        """First line of the class's docstring."""
        return (self.build.__doc__ or "").strip().splitlines()[0]

    def broken_contracts(self, preset: str | None = None) -> frozenset[str]:
        """Names of the contracts that the model does not keep, as it is or with a preset."""
        if preset is not None and preset not in self.presets:
            raise unknown_name("preset", preset, self.presets, where=f"the model {self.name!r}")
        return frozenset(self.breaks) | frozenset(self.presets[preset].get("breaks", ()) if preset else ())

    def parameters(
        self, inputs: Mapping[str, int], tasks: Sequence[Task], options: Mapping[str, Any] | None = None
    ) -> int | None:
        """Return the number of trainable numbers at given widths and tasks; None without training by gradient.

        Raises:
            AffectusError: as for :meth:`create`.
        """
        if not issubclass(self.build, Model):
            return None
        # without memory for the numbers, so that large models cost nothing
        with torch.device("meta"):
            model = self.create(inputs, tasks, options)
        return model.parameter_count() if isinstance(model, Model) else None

    def create(
        self, inputs: Mapping[str, int], tasks: Sequence[Task], options: Mapping[str, Any] | None = None
    ) -> AnyModel:
        """Build the model.

        Raises:
            AffectusError: an option is unknown or has a value that the model does not take, a task is of a kind that it
                cannot learn, or there is no modality.
        """
        for name in options or {}:
            if name not in self.options:
                raise unknown_name("option", name, self.options, where=f"the model {self.name!r}")
        if not inputs:
            raise AffectusError(f"The model {self.name!r} needs a modality at least")
        for task in tasks:
            if task.kind not in self.kinds:
                raise AffectusError(
                    f"The model {self.name!r} cannot learn the task {task.name!r}",
                    got=f"a task of kind {task.kind}",
                    expected="one of: " + ", ".join(sorted(self.kinds)),
                )
        return self.build(inputs=inputs, tasks=tasks, **(options or {}))


MODELS: Registry[ModelEntry] = Registry("model")


def register_model(
    name: str,
    *,
    paper: Paper | None,
    views: Iterable[View],
    training: Mapping[str, Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    kinds: Iterable[TaskKind] = tuple(TaskKind),
    breaks: Iterable[str] = (),
    space: Space | None = None,
) -> Callable[[type[Any]], type[Any]]:
    """Return a class decorator that registers a model; see :class:`ModelEntry`."""

    def decorate(build: type[Any]) -> type[Any]:
        entry = ModelEntry(
            name,
            build,
            paper,
            frozenset(views),
            training or {},
            presets or {},
            frozenset(kinds),
            tuple(breaks),
            space or {},
        )
        MODELS.add(name, entry)
        return build

    return decorate


def _argument_help(docstring: str) -> dict[str, str]:
    """Read the ``Args:`` section of a Google-style docstring."""
    helps: dict[str, str] = {}
    inside, current, indent = False, None, None
    for line in inspect.cleandoc(docstring).splitlines():
        stripped = line.strip()
        depth = len(line) - len(line.lstrip())
        if stripped == "Args:":
            inside = True
        elif inside and stripped and depth == 0:
            break
        elif inside and stripped:
            indent = depth if indent is None else indent
            name, colon, text = stripped.partition(":")
            if depth == indent and colon:
                current = name.split(" ")[0]
                helps[current] = text.strip()
            elif current:
                helps[current] += " " + stripped
    return helps


class Heads(nn.Module):
    """One linear layer per task.

    Args:
        dim: width of the representation.
        tasks: what to predict.
    """

    def __init__(self, dim: int, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({task.name: Linear(dim, task.outputs) for task in tasks})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (..., dim) to (..., outputs) per task."""
        return {name: layer(x) for name, layer in self.layers.items()}


def check_shapes(arrays: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]]) -> None:
    """Check that an estimator is given the arrays that are its own.

    Raises:
        ValueError: names one that is not, or is not there.
    """
    for name in [*expected, *arrays]:
        got, shape = arrays.get(name), expected.get(name)
        if got is None or shape is None or list(got.shape) != list(shape):
            if got is None:
                raise ValueError(f"no array {name!r}")
            raise ValueError(
                f"the array {name!r} of shape {list(got.shape)}" + (f", not {list(shape)}" if shape else "")
            )


def check_share(name: str, value: float) -> None:
    """Check that an option is a share in [0, 1).

    Raises:
        AffectusError: it is not.
    """
    if not 0.0 <= value < 1.0:
        raise AffectusError(f"The option {name!r} is out of range", got=value, expected="a number in [0, 1)")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that an option is one of its named values.

    Raises:
        AffectusError: it is not.
    """
    if value not in choices:
        raise unknown_name(f"value of the option {name!r}:", str(value), choices)


def check_inputs(inputs: Mapping[str, int], batch: Batch) -> None:
    """Check that a batch has the modalities that a model was built for, in their widths.

    Text that is still tokens has no width: the encoder makes it.

    Raises:
        AffectusError: it has not.
    """
    for name, width in inputs.items():
        if name == TEXT and batch.tokens is not None:
            continue
        if name not in batch.features:
            raise unknown_name("modality", name, batch.features, where="the batch")
        if batch.features[name].shape[-1] != width:
            raise AffectusError(
                f"Modality {name!r} has another width than the model was built for",
                got=batch.features[name].shape[-1],
                expected=str(width),
                remedy="Extract the features as for the training corpus",
            )


def _check_batch(model: nn.Module, arguments: tuple[Any, ...]) -> None:
    # a forward pre-hook, so that no model need remember to check
    if isinstance(model, Model) and arguments and isinstance(arguments[0], Batch):
        check_inputs(model.inputs, arguments[0])

"""What a run is: model, options, tasks, modalities, seeds and settings, resolved and checked before anything starts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from affectus.batches import Scale
from affectus.errors import AffectusError, suggest, unknown_name
from affectus.files import read_yaml
from affectus.models import MODELS, Model, ModelEntry
from affectus.objectives import RealLoss, Weighing
from affectus.vocabulary import View

PER_TASK = "per_task"
"""The value of ``select`` that chooses an epoch for each task by itself."""
TASK_LOSS = "task_loss"
"""The value of ``select`` that looks at the losses of the predictions alone."""
LOSSES = ("loss", TASK_LOSS, PER_TASK)
"""The values of ``select`` that are no metric."""


class Optimizer(StrEnum):
    """Which optimiser trains."""

    ADAM = "adam"
    ADAMW = "adamw"
    ADADELTA = "adadelta"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class Clip(StrEnum):
    """What of the gradient is clipped."""

    NORM = "norm"
    VALUE = "value"


class Precision(StrEnum):
    """In what kind of numbers a network is trained; ``affectus.training.mixed`` says what is in which."""

    FP32 = "fp32"
    BF16 = "bf16"


class Compile(StrEnum):
    """Whether a network is compiled for training; ``affectus.training.compiling`` says how."""

    OFF = "off"
    DEFAULT = "default"
    REDUCE_OVERHEAD = "reduce-overhead"


class UnlabelledMethod(StrEnum):
    """How utterances without labels are learned from; ``affectus.training.unlabelled`` says how each works."""

    CONSISTENCY = "consistency"
    PSEUDO_LABELS = "pseudo_labels"


class TrainingSettings(BaseModel):
    """How a model is trained. A model's published settings replace these defaults; the user's replace both."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: Optimizer = Field(Optimizer.ADAM, description="Optimiser.")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of the optimiser.")
    batch_size: int = Field(32, ge=1, description="Videos (contextual view) or utterances in a batch.")
    epochs: int = Field(50, ge=1, description="At most so many passes over train.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many epochs without a better one on valid; empty: never."
    )
    select: str = Field(
        "loss",
        description="What the best epoch on valid is best in: loss; task_loss, which leaves out what a model adds to "
        "the losses of its predictions; a metric such as polarity.accuracy; or per_task: each task is predicted by the "
        "epoch in which its own loss was lowest.",
    )
    clip: float | None = Field(None, gt=0, description="Clip the gradient to this; empty: do not.")
    clip_by: Clip = Field(Clip.NORM, description="Clip the gradient's norm, or each value of it.")
    accumulate: int = Field(
        1,
        ge=1,
        description="Step after so many batches, with the mean of their gradients; the last ones of an epoch too.",
    )
    plateau: int | None = Field(
        None,
        ge=0,
        description="Lower the learning rates after more than so many epochs without a lower loss on valid; empty: "
        "never.",
    )
    plateau_factor: float = Field(0.1, gt=0, lt=1, description="What the learning rates are multiplied by then.")
    scale: Scale = Field(Scale.STANDARD, description="Feature scaling, fitted on train: standard, max or none.")
    balanced: bool = Field(False, description="Weigh classes inversely to how often they occur in train.")
    real_loss: RealLoss = Field(RealLoss.MSE, description="Loss of tasks with real values: mse, l1 or smooth_l1.")
    average_weights: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Judge and keep an exponential moving average of the weights, of this decay (0.99); empty: none.",
    )
    precision: Precision = Field(
        Precision.FP32,
        description="fp32, or bf16: products and convolutions of the network in bfloat16 while it trains; weights, "
        "losses and everything after training stay in fp32.",
    )
    compile: Compile = Field(
        Compile.OFF,
        description="Compile the network for training with torch.compile: off, default, or reduce-overhead (CUDA "
        "graphs; on a GPU, in the contextual view with pad_to).",
    )
    weighing: Weighing = Field(
        Weighing.FIXED,
        description="How the tasks' losses are combined: fixed (weights), uncertainty (Kendall et al. 2018) or pcgrad "
        "(gradient surgery, Yu et al. 2020).",
    )
    text_encoder: str | None = Field(
        None,
        description="Make the text from transcripts with a transformer: minilm (packaged), a local folder, or a name "
        "on the Hugging Face hub. It takes the place of a text modality that the corpus has.",
    )
    text_layers: int = Field(
        0,
        ge=-1,
        description="How many of the text encoder's last layers are trained with the model: 0 none, -1 (or all) all of "
        "it, the embeddings too.",
    )
    text_learning_rate: float = Field(2e-5, gt=0, description="Learning rate of the text encoder's trained layers.")
    text_weight_decay: float = Field(
        0.0, ge=0, description="Weight decay of the text encoder's matrices; its biases and normalisations have none."
    )
    text_max_tokens: int = Field(50, ge=3, description="Longer texts are cut; the marks at both ends count.")
    text_warmup: float = Field(
        0.0, ge=0, description="The text encoder's learning rate rises from 0 over so many epochs of each stage."
    )
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Hide each modality of each training utterance with this probability, but never the last one that "
        "it has, so that the model answers when one is missing.",
    )
    unlabelled_method: UnlabelledMethod = Field(
        UnlabelledMethod.CONSISTENCY,
        description="How --unlabelled is learned from: consistency with a moving average of the weights (Tarvainen and "
        "Valpola 2017), or pseudo_labels (Lee 2013).",
    )
    unlabelled_weight: float = Field(1.0, ge=0, description="Weight of the losses on unlabelled utterances.")
    unlabelled_rampup: float = Field(
        5.0, ge=0, description="Epochs over which the losses on unlabelled utterances rise to their weight."
    )
    pseudo_confidence: float = Field(
        0.95, gt=0, le=1, description="Least probability of a class that is taken for a pseudo-label."
    )
    teacher_decay: float = Field(
        0.99, gt=0, lt=1, description="Decay of the average of the weights that teaches consistency."
    )
    buckets: bool = Field(True, description="Batch samples of similar length together.")
    pad_to: int | None = Field(None, ge=1, description="Pad every video to this many utterances, as released codes do.")
    record_epochs: bool = Field(
        True, description="Keep each epoch's predictions for valid and test, which the oracle protocols judge."
    )
    keep_epochs: bool = Field(
        False, description="Keep each epoch's weights too, for oracles on other corpora; costs disk."
    )

    @field_validator("compile", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        # YAML reads off as False
        return {False: Compile.OFF, True: Compile.DEFAULT}[value] if isinstance(value, bool) else value

    @field_validator("text_layers", mode="before")
    @classmethod
    def _all_layers(cls, value: Any) -> Any:
        return -1 if value == "all" else value


OF_NETWORKS = frozenset(TrainingSettings.model_fields) - {
    *("scale", "balanced", "text_encoder", "text_max_tokens"),
    "record_epochs",  # there is none to record
}
"""Settings that a model without gradients has no use for."""
_TOLD = {"text_layers", "precision", "compile"}
"""Those of them of which a sentence of their own tells if they ask for anything."""


class RunConfig(BaseModel):
    """A whole run, as written to ``run.json``: enough to repeat it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    preset: str | None = None
    view: View
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    seeds: tuple[int, ...]
    options: dict[str, Any]
    training: TrainingSettings


class ConfigFile(BaseModel):
    """The keys of a ``--config`` YAML file; a packaged experiment has them too."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    preset: str | None = None
    view: View | None = None
    tasks: list[str] | None = None
    modalities: list[str] | None = None
    seeds: int | list[int] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    paper: Any = None
    results: Any = None
    notes: Any = None


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Read a YAML configuration: ``model, preset, view, tasks, modalities, seeds, options, training``.

    ``paper``, ``results`` and ``notes`` may stand there too, as in the packaged experiments, and are not used.

    Raises:
        AffectusError: the file is absent, is no YAML mapping, or has an unknown key.
    """
    path = Path(path)
    raw = read_yaml(path, "configuration")
    for key in raw:
        if key not in ConfigFile.model_fields:
            raise unknown_name("key", str(key), ConfigFile.model_fields, where=path)
    config: ConfigFile = _validated(ConfigFile, raw, where=str(path))
    return config.model_dump(exclude_none=True, exclude={"paper", "results", "notes"})


def parse_assignments(assignments: Sequence[str], entry: ModelEntry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort ``key=value`` settings into model options and training settings; values are read as YAML.

    Raises:
        AffectusError: no ``=``, or a key that is neither.
    """
    options: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise AffectusError("A setting is not of the form key=value", got=repr(text))
        key = key.strip().removeprefix("options.").removeprefix("training.")
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            parsed = value
        except RecursionError:
            raise AffectusError("The value of a setting is nested too deep", where=f"--set {key}=...") from None
        if isinstance(parsed, str):
            parsed = _number(parsed)
        if key in entry.options:
            options[key] = parsed
        elif key in TrainingSettings.model_fields:
            training[key] = parsed
        else:
            known = [*entry.options, *TrainingSettings.model_fields]
            raise unknown_name("setting", key, known, where=f"--set, for the model {entry.name!r}")
    return options, training


def _number(text: str) -> Any:
    # YAML 1.1 takes 1e-3 for a string
    try:
        return float(text)
    except ValueError:
        return text


def resolve_settings(
    entry: ModelEntry,
    *,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], TrainingSettings]:
    """Combine defaults, the model's published settings, a preset and the user's own, in this order.

    Returns:
        All options of the model, and the training settings.

    Raises:
        AffectusError: an unknown preset, option or setting, or a value of the wrong type.
    """
    chosen: Mapping[str, Mapping[str, Any]] = {}
    if preset is not None:
        if preset not in entry.presets:
            raise unknown_name("preset", preset, entry.presets, where=f"the model {entry.name!r}")
        chosen = entry.presets[preset]
    all_options = {option.name: option.default for option in entry.options.values()}
    for name, value in {**chosen.get("options", {}), **(options or {})}.items():
        if name not in all_options:
            raise unknown_name("option", name, all_options, where=f"the model {entry.name!r}")
        all_options[name] = _as_type_of(entry, name, value)
    merged = {**entry.training, **chosen.get("training", {}), **(training or {})}
    for name in merged:
        if name not in TrainingSettings.model_fields:
            raise unknown_name("training setting", name, TrainingSettings.model_fields)
    return all_options, _validated(TrainingSettings, merged, where="the training settings")


def _as_type_of(entry: ModelEntry, name: str, value: Any) -> Any:
    """Check an option's value against the type of its default; no number in it may be infinite or NaN."""
    default = entry.options[name].default
    if not _finite(value):
        raise AffectusError(
            f"The option {name!r} of the model {entry.name!r} is out of range",
            got=repr(value),
            expected="a finite number",
        )
    if value is None or default is None:
        return value
    if isinstance(default, bool) or isinstance(value, bool):
        fits = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, int):
        fits = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        value = int(value) if fits else value
        least = min(default, 1)
        if fits and value < least:
            raise AffectusError(
                f"The option {name!r} of the model {entry.name!r} is out of range",
                got=value,
                expected=f"{least} or more",
            )
    elif isinstance(default, float):
        fits = isinstance(value, int | float)
        value = float(value) if fits else value
    else:
        if isinstance(default, tuple) and default and type(value) is type(default[0]):
            value = (value,)  # one number stands for a list of one
        fits = isinstance(value, type(default)) or (isinstance(default, tuple) and isinstance(value, list))
        value = tuple(value) if isinstance(value, list) and isinstance(default, tuple) else value
    if not fits:
        raise AffectusError(
            f"The option {name!r} of the model {entry.name!r} has the wrong type",
            got=repr(value),
            expected=type(default).__name__,
        )
    return value


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _validated(kind: type[Any], raw: Mapping[str, Any], *, where: str) -> Any:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise AffectusError(
            f"The key {key!r} has a wrong value",
            where=where,
            got=repr(first.get("input")),
            expected=first["msg"].removeprefix("Input should be ").removeprefix("Value error, "),
            remedy=suggest(key, kind.model_fields) if first["type"] == "extra_forbidden" else None,
        ) from None


def choose_view(entry: ModelEntry, wanted: View | None) -> View:
    """Return the view to train in: the wanted one, else the first that the model accepts (contextual first).

    Raises:
        AffectusError: the model does not accept the wanted view.
    """
    if wanted is None:
        return next(view for view in View if view in entry.views)
    if wanted not in entry.views:
        raise unknown_name("view", str(wanted), [str(v) for v in entry.views], where=f"the model {entry.name!r}")
    return wanted


def check_of_networks(entry: ModelEntry, given: Iterable[str]) -> None:
    """Refuse settings of gradient training for a model that has none; silently they would do nothing.

    Args:
        entry: the model.
        given: names of settings that the user has given.

    Raises:
        AffectusError: names the settings and the model.
    """
    if is_gradient_model(entry.name):
        return
    useless = [name for name in given if name in OF_NETWORKS - _TOLD]
    if useless:
        several = len(useless) > 1
        raise AffectusError(
            f"The model {entry.name!r} is not trained by gradient, so the setting{'s' if several else ''} "
            f"{', '.join(map(repr, useless))} would do nothing",
            remedy=f"Leave {'them' if several else 'it'} out, or choose another model",
        )


def settings_for(model: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of several models as one of them takes them: without gradients not those of networks."""
    network = is_gradient_model(model)
    return {name: value for name, value in training.items() if network or name not in OF_NETWORKS}


def is_gradient_model(name: str) -> bool:
    """True if the model is trained by gradient, with epochs and seeds that matter."""
    return issubclass(MODELS[name].build, Model)

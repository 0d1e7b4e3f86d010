"""The packaged experiments: a paper's configuration with the paper's own figures.

One YAML file per experiment, ``experiments/<author><year>_<model>_<data>.yaml``. Its keys are those of a configuration
(``affectus train --config``), and ``paper``, ``results`` and ``notes``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from affectus.errors import AffectusError, suggest, unknown_name
from affectus.files import read_yaml
from affectus.models import MODELS
from affectus.training.config import ConfigFile, TrainingSettings, choose_view, resolve_settings

ALL = "all"
"""Under ``uncertain``: what holds for every figure of the row."""


class PaperFacts(BaseModel):
    """Where an experiment was published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    authors: str
    year: int
    title: str
    venue: str
    url: str


class PublishedRow(BaseModel):
    """A row of a paper's table, as far as it is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: dict[str, str]
    """What tells the row from others: system, modalities, learning, ..."""
    figures: dict[str, float]
    """By the names of affectus's metrics, or of counts."""
    uncertain: dict[str, str] = Field(default_factory=dict)
    """Per figure, or for all, why it may not be what the paper prints in this cell."""

    @model_validator(mode="after")
    def _doubts_are_of_figures(self) -> "PublishedRow":
        for name in self.uncertain:
            if name != ALL and name not in self.figures:
                raise ValueError(f"a doubt about {name!r}, which is no figure of the row")
        return self

    def doubt(self, figure: str) -> str | None:
        """Return why a figure is uncertain; None if it is not."""
        return self.uncertain.get(figure, self.uncertain.get(ALL))


class Results(BaseModel):
    """What a paper reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Literal["percent", "share"]
    split: str
    """Which split was judged."""
    chosen_on: str
    """What chose the epoch and the threshold."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """The thresholds that the paper settles on."""
    tables: dict[str, tuple[PublishedRow, ...]]
    """By the table's number."""

    def figure(self, table: str, row: Mapping[str, str], name: str) -> tuple[float, str | None] | None:
        """Return a published figure as a share, and the doubt about it; None where it is not at hand."""
        for found in self.tables.get(table, ()):
            if found.row == dict(row) and name in found.figures:
                scale = 0.01 if self.unit == "percent" else 1.0
                return found.figures[name] * scale, found.doubt(name)
        return None

    def count(self, table: str, row: Mapping[str, str], name: str) -> tuple[float, str | None] | None:
        """Return a published count, and the doubt about it; None where it is not at hand."""
        for found in self.tables.get(table, ()):
            if found.row == dict(row) and name in found.figures:
                return found.figures[name], found.doubt(name)
        return None


class Experiment(ConfigFile):
    """A packaged experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    tasks: list[str]
    paper: PaperFacts
    results: Results
    notes: list[str] = Field(default_factory=list)

    @property
    def settings(self) -> tuple[dict[str, Any], TrainingSettings]:
        """The model's options and the training settings, resolved.

        Raises:
            AffectusError: an option or a setting is unknown or has a wrong value.
        """
        return resolve_settings(MODELS[self.model], preset=self.preset, options=self.options, training=self.training)


def experiments() -> dict[str, Path]:
    """Return the packaged experiments by name."""
    folder = Path(str(files("affectus.studies") / "experiments"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def experiment_path(name: str | Path) -> Path:
    """Return the file of a packaged experiment if a name is given, and any other path as it is.

    A name has neither a folder nor a suffix, and no file of that name lies in the current folder.

    Raises:
        AffectusError: there is no experiment of that name.
    """
    path = Path(name)
    if path.suffix or len(path.parts) > 1 or path.exists():
        return path
    known = experiments()
    if str(name) not in known:
        raise unknown_name("packaged experiment", str(name), known)
    return known[str(name)]


def load_experiment(name: str | Path) -> Experiment:
    """Read and check an experiment, by name or from a file of the same form.

    Raises:
        AffectusError: it is unknown, or a key of it is unknown or has a wrong value.
    """
    path = experiment_path(name)
    raw = read_yaml(path, "experiment")
    try:
        experiment = Experiment.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "results"
        raise AffectusError(
            f"The key {key!r} has a wrong value",
            where=path,
            got=repr(first.get("input"))[:100],
            expected=first["msg"].removeprefix("Input should be ").removeprefix("Value error, "),
            remedy=suggest(str(first["loc"][-1]), Experiment.model_fields)
            if first["type"] == "extra_forbidden"
            else None,
        ) from None
    choose_view(MODELS[experiment.model], experiment.view)
    _ = experiment.settings
    return experiment


@dataclass(frozen=True)
class Reported:
    """What a paper reports of a model on a data set: a row of one of its tables.

    Attributes:
        experiment: the packaged experiment that holds it.
        data: the data set, by the last part of the experiment's name (``mosi``).
        paper: where the experiment was published, in short.
        table: of that paper.
        row: what tells the row from others.
        figures: as shares, by the names of affectus's metrics.
        doubts: per figure, why it may not be what the paper prints.
        own: the experiment is the model's own, and not another's that compares with it.
    """

    experiment: str
    data: str
    paper: str
    table: str
    row: Mapping[str, str]
    figures: Mapping[str, float]
    doubts: Mapping[str, str]
    own: bool


@lru_cache(maxsize=1)
def _packaged() -> tuple[tuple[str, Experiment], ...]:
    return tuple((name, load_experiment(path)) for name, path in experiments().items())


def data_sets() -> tuple[str, ...]:
    """Return the data sets of the packaged experiments, as their names end."""
    return tuple(sorted({name.rpartition("_")[2] for name in experiments()}))


def data_set_of(corpus: str) -> str | None:
    """Return which of :func:`data_sets` a corpus is, by its name; None if it is none of them.

    >>> data_set_of("CMU-MOSI"), data_set_of("RAVDESS")
    ('mosi', None)
    """
    plain = "".join(c for c in corpus.lower() if c.isalnum())
    return next((data for data in sorted(data_sets(), key=len, reverse=True) if data in plain), None)


def reported(model: str, data: str | None = None) -> list[Reported]:
    """Return what the packaged experiments hold of a model's results, its own experiments first.

    Args:
        model: a registered model.
        data: the data set; None for all.
    """
    found = []
    for name, experiment in _packaged():
        of = name.rpartition("_")[2]
        if data is not None and of != data:
            continue
        scale = 0.01 if experiment.results.unit == "percent" else 1.0
        for table, rows in experiment.results.tables.items():
            for row in rows:
                system = row.row.get("system")
                # in its own experiment a model may bear the name that the paper gives it
                if system is None or (system != model and (system in MODELS or experiment.model != model)):
                    continue
                figures = {metric: round(value * scale, 10) for metric, value in row.figures.items()}
                doubts = {metric: text for metric in figures for text in [row.doubt(metric)] if text}
                paper = f"{experiment.paper.authors} {experiment.paper.year}"
                own = experiment.model == model
                found.append(Reported(name, of, paper, table, row.row, figures, doubts, own))
    found.sort(key=lambda one: (one.data, not one.own))
    # two experiments may quote one table of one paper, and one the table of another that is packaged too
    seen: dict[str, Reported] = {}
    there = [(one.data, f"{one.paper}, {one.table}", one.figures) for one in found]
    for one in found:
        if (one.data, one.table, one.figures) in there:
            continue
        seen.setdefault(f"{one.data} {one.paper} {one.table} {one.figures}", one)
    return list(seen.values())

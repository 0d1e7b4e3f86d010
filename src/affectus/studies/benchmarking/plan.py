"""What a benchmark trains on a corpus: a cell per model, and why a model has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from affectus.batches import choose_modalities
from affectus.corpus import Corpus
from affectus.errors import AffectusError, unknown_name
from affectus.evaluation import PROTOCOLS
from affectus.models import MODELS, ModelEntry
from affectus.objectives import Task, TaskKind, available_tasks, choose_tasks
from affectus.studies.cells import Cell
from affectus.studies.published import data_set_of
from affectus.training.config import (
    TrainingSettings,
    check_of_networks,
    resolve_settings,
    settings_for,
)
from affectus.training.run import labelled_tasks
from affectus.vocabulary import TEXT, Split, View

MAJORITY, LINEAR, NEIGHBOURS = "majority", "linear", "linear-neighbours"
SIMPLE = (MAJORITY, LINEAR, NEIGHBOURS)
"""The rows that are always there; the last one where videos have several utterances."""
ANY_VIEW = "any"
"""In place of a view: each model in the first that it takes."""
PREFERRED = ("intensity", "ratings", "emotion_class", "polarity", "emotions")
"""The first of these that a corpus has labels for is the task, if none is wanted."""
RANKED_BY: Mapping[TaskKind, str] = {
    TaskKind.REAL: "mae",
    TaskKind.BINARY: "accuracy",
    TaskKind.ONE_OF_K: "accuracy",
    TaskKind.MULTI_LABEL: "weighted_f1",
}
COMPARABLE: Mapping[TaskKind, tuple[str, ...]] = {
    TaskKind.REAL: ("mae", "pearson"),
    TaskKind.BINARY: ("accuracy", "weighted_f1"),
    TaskKind.ONE_OF_K: ("accuracy", "weighted_f1"),
    TaskKind.MULTI_LABEL: ("weighted_f1", "weighted_accuracy"),
}
"""The figures that can be tested, and so ranked by."""
_TEXT_SETTINGS: Mapping[str, Any] = {"text_encoder": None, "text_layers": 0}


@dataclass(frozen=True, eq=False)
class Plan:
    """What is trained on a corpus.

    Attributes:
        corpus: to train and judge on.
        split: which is judged.
        tasks: what every model predicts.
        modalities: what every model reads.
        view: of the corpus; ``any`` for each model's own.
        protocol: by which rules.
        rank_by: the figure that ranks.
        lower: less of it is better.
        data: the data set of packaged experiments that the corpus is; None for another.
        cells: by name; the simple baselines first.
        left_out: per model that is wanted but not trained, a sentence.
        notes: what a reader must know, one sentence each.
    """

    corpus: Corpus
    split: str
    tasks: tuple[Task, ...]
    modalities: tuple[str, ...]
    view: str
    protocol: str
    rank_by: str
    lower: bool
    data: str | None
    cells: Mapping[str, Cell]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """What is changed of the models' settings.

    Attributes:
        training: settings of every model.
        options: per model, options of its own.
        own: per model, training settings of its own.
    """

    training: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]]
    own: Mapping[str, Mapping[str, Any]]

    @classmethod
    def none(cls) -> "Changes":
        """Return no change."""
        return cls({}, {}, {})

    @property
    def models(self) -> list[str]:
        """The models with changes of their own."""
        return list(dict.fromkeys([*self.options, *self.own]))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {key: dict(value) for key, value in vars(self).items()}

    def shown(self) -> list[str]:
        """Return the changes as they are given on the command line."""
        lines = [f"{key}={_shown(value)}" for key, value in self.training.items()]
        for of in (self.options, self.own):
            lines += [f"{model}.{key}={_shown(value)}" for model, those in of.items() for key, value in those.items()]
        return lines


def _shown(value: Any) -> Any:
    # a page bears no path of the machine that made it
    return Path(value).name if isinstance(value, str) and Path(value).exists() else value


def make_plan(
    corpus: Corpus,
    *,
    seeds: tuple[int, ...],
    models: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    view: str | None = None,
    protocol: str | None = None,
    rank_by: str | None = None,
    split: str | None = None,
    changes: Changes | None = None,
    presets: bool = True,
) -> Plan:
    """Work out a cell for each model that fits, and a sentence for each that does not.

    Args:
        corpus: to train and judge on.
        seeds: of every cell.
        models: their names; None for all.
        tasks: what to predict; None for the corpus's main one.
        modalities: which to read; None for all.
        view: in which models are trained, or ``any``; None for the corpus's own.
        protocol: of the evaluation; None for the field's on this data set.
        rank_by: a figure such as ``intensity.mae``; None for that of the first task.
        split: which to judge; None for test, or valid where there is no test.
        changes: of settings.
        presets: take the models' presets for the data set that the corpus is.

    Raises:
        AffectusError: a name is unknown, the corpus has nothing to judge or no labels, the protocol is an oracle's, or
            a setting is wrong.
    """
    changes = changes or Changes.none()
    entries = _wanted(models, changes)
    tasks = [main_task(corpus)] if tasks is None else tasks
    chosen = choose_tasks(tasks, corpus.schemes)
    here = set(corpus.splits.tolist())
    judged = split or (Split.TEST if Split.TEST in here else Split.VALID)
    for needed in (Split.TRAIN, judged):
        corpus.rows(needed)
    encoded = changes.training.get("text_encoder") is not None
    read = choose_modalities(corpus, modalities, encoded=encoded)
    natural = corpus_view(corpus, read, encoded=encoded)
    if view not in (None, ANY_VIEW, *View):
        raise unknown_name("view", str(view), [*View, ANY_VIEW])
    rules = protocol or usual_protocol(chosen)
    if PROTOCOLS[rules].oracle:
        raise AffectusError(
            f"The protocol {rules!r} is an oracle's: it chooses on the split that is judged, so it ranks luck",
            remedy="Choose another; `affectus protocols` tells which",
        )
    ranked = choose_figure(chosen, rank_by)
    data = data_set_of(corpus.name) if presets else None
    context = any(len(rows) > 1 for rows in corpus.recordings(Split.TRAIN))
    in_view = natural if view is None else view
    planner = _Planner(corpus, tuple(tasks), chosen, read, natural, in_view, data, seeds, changes, encoded)
    cells: dict[str, Cell] = {}
    left_out: dict[str, str] = {}
    for entry in entries:
        try:
            cells.update({cell.name: cell for cell in planner.cells(entry, context)})
        except _LeftOut as reason:
            left_out[entry.name] = str(reason)
    notes = [*_notes(corpus, chosen, str(judged), split), *planner.notes]
    return Plan(
        corpus,
        str(judged),
        chosen,
        read,
        str(in_view),
        rules,
        ranked,
        ranked.endswith(".mae"),
        data,
        cells,
        left_out,
        tuple(notes),
    )


def _wanted(models: Sequence[str] | None, changes: Changes) -> list[ModelEntry]:
    for name in changes.models:
        _ = MODELS[name]
    listed = list(MODELS) if models is None or list(models) == ["all"] else list(models)
    for name in listed:
        _ = MODELS[name]
    chosen = list(dict.fromkeys([MAJORITY, LINEAR, *listed]))
    for name in changes.models:
        if name not in chosen:
            key = next(iter({**changes.options.get(name, {}), **changes.own.get(name, {})}), "")
            raise AffectusError(
                f"A setting is given for the model {name!r}, which is not benchmarked",
                got=f"{name}.{key}",
                expected="a setting of one of: " + ", ".join(chosen),
                remedy="Add the model to --models, or leave the setting out",
            )
    return [MODELS[name] for name in chosen]


def corpus_view(corpus: Corpus, modalities: Sequence[str], *, encoded: bool = False) -> View:
    """Return the view that a corpus is made for: sequences, aligned or not, or one vector per utterance in its video.

    Args:
        corpus: any.
        modalities: that are read.
        encoded: a text encoder makes sequences of tokens.
    """
    if encoded:
        return View.UNALIGNED
    if all((corpus.features[name].lengths <= 1).all() for name in modalities):
        return View.CONTEXTUAL
    return View.ALIGNED if corpus.card.word_aligned else View.UNALIGNED


def usual_protocol(tasks: Sequence[Task]) -> str:
    """Return the protocol by which the field judges these tasks on their data set."""
    first = next((task for task in tasks if task.scheme == "sentiment"), None)
    if first is None or first.kind is not TaskKind.REAL:
        return "akhtar2019"
    return "mmsa-sims" if (first.low, first.high) == (-1.0, 1.0) else "mmsa"


def main_task(corpus: Corpus) -> str:
    """Return the task that is learned on a corpus if none is wanted.

    Raises:
        AffectusError: it has no labels.
    """
    known = available_tasks(corpus.schemes)
    if not known:
        raise AffectusError(f"The corpus {corpus.name!r} has no labels to learn from")
    return next((name for name in PREFERRED if name in known), next(iter(known)))


def choose_figure(tasks: Sequence[Task], wanted: str | None) -> str:
    """Return the figure that ranks: the wanted one, or the usual one of the first task.

    Raises:
        AffectusError: it is none of the figures of these tasks that can be compared.
    """

    def full(task: Task, metric: str) -> str:
        # the figures of emotions bear one name, with *none* or without it
        return f"{'emotions' if task.kind is TaskKind.MULTI_LABEL else task.name}.{metric}"

    allowed = [full(task, metric) for task in tasks for metric in COMPARABLE[task.kind]]
    if wanted is None:
        return full(tasks[0], RANKED_BY[tasks[0].kind])
    if wanted not in allowed:
        raise unknown_name("figure", wanted, allowed, where="what can be compared of these tasks")
    return wanted


def _notes(corpus: Corpus, tasks: Sequence[Task], judged: str, split: str | None) -> list[str]:
    said = []
    if judged == Split.VALID:
        why = "It has no test split: its valid split is judged" if split is None else "Its valid split is judged"
        said.append(f"{why}, on which the epochs were chosen, so the figures are better than on new data.")
    elif not labelled_tasks(corpus, Split.VALID, tasks):
        said.append("It has no valid split with labels: every figure is that of the last epoch.")
    if corpus.card.generated:
        said.append("The corpus is generated: a program made it, and its figures tell nothing of people.")
    return said


class _LeftOut(Exception):  # noqa: N818 - it is no error
    """Why a model is not trained."""


class _Planner:
    """Makes the cells of a model."""

    def __init__(
        self,
        corpus: Corpus,
        names: tuple[str, ...],
        tasks: tuple[Task, ...],
        modalities: tuple[str, ...],
        natural: View,
        view: str,
        data: str | None,
        seeds: tuple[int, ...],
        changes: Changes,
        encoded: bool,
    ) -> None:
        self.corpus, self.names, self.tasks, self.modalities = corpus, names, tasks, modalities
        self.natural, self.view, self.data, self.seeds = natural, view, data, seeds
        self.changes, self.encoded = changes, encoded
        self.notes: list[str] = []

    def cells(self, entry: ModelEntry, context: bool) -> list[Cell]:
        """Return the cells of a model: one, but for linear regression where there is context.

        Raises:
            _LeftOut: the model does not fit.
            AffectusError: a setting is wrong.
        """
        view = self._view(entry)
        for task in self.tasks:
            if task.kind not in entry.kinds:
                kinds = ", ".join(sorted(entry.kinds))
                raise _LeftOut(f"it does not learn tasks of kind {task.kind}, such as {task.name!r}, but {kinds}")
        preset = self.data if self.data in entry.presets else None
        options = self._options(entry, preset)
        training = self._training(entry, preset)
        name = "".join(c if c.isalnum() or c in "._-" else "-" for c in entry.name.lower())
        cell = Cell(name, entry.name, self.names, self.modalities, options, training, preset, view, self.seeds)
        all_options, settings = resolve_settings(entry, preset=preset, options=options, training=training)
        if settings.text_encoder is None:
            self._try(entry, all_options)
        if entry.name == LINEAR and view is View.CONTEXTUAL and context and "neighbours" not in options:
            near = Cell(
                NEIGHBOURS,
                LINEAR,
                self.names,
                self.modalities,
                {**options, "neighbours": 2},
                training,
                None,
                view,
                (0,),
            )
            return [cell, near]
        return [cell]

    def _try(self, entry: ModelEntry, options: Mapping[str, Any]) -> None:
        """Build the model for these modalities and tasks, without memory for its numbers.

        Raises:
            _LeftOut: it refuses them.
            AffectusError: it refuses what the user has set.
        """
        try:
            with torch.device("meta"):
                entry.create({name: self.corpus.dims[name] for name in self.modalities}, self.tasks, options)
        except AffectusError as error:
            if entry.name in {**self.changes.options, **self.changes.own}:
                raise  # what the user set is not kept quiet
            raise _LeftOut(_lowered(str(error))) from None
        except Exception:
            return  # a model of a third party may need real numbers; its training tells what is wrong

    def _view(self, entry: ModelEntry) -> View:
        if self.view == ANY_VIEW:
            wanted = (self.natural, View.UNALIGNED, View.CONTEXTUAL, View.ALIGNED)
            return next(view for view in wanted if view in entry.views)
        view = View(self.view)
        if view in entry.views:
            return view
        if view is View.ALIGNED and View.UNALIGNED in entry.views:
            return View.UNALIGNED  # it keeps each modality's own steps, which are equally many here
        takes = " and ".join(str(one) for one in View if one in entry.views)
        raise _LeftOut(f"it takes the {takes} view, and the corpus is read in the {view} view")

    def _options(self, entry: ModelEntry, preset: str | None) -> dict[str, Any]:
        options = dict(self.changes.options.get(entry.name, {}))
        known = entry.options
        if entry.name == LINEAR and any(task.kind is TaskKind.REAL for task in self.tasks):
            options.setdefault("alpha", None)  # chosen on train, as a user of ridge regression would
        first = "text" in known and known["text"].default == "first"
        if first and not self.encoded and TEXT in self.modalities and "text" not in options:
            options["text"] = "mean"
            self.notes.append(
                f"`{entry.name}` takes the first token of the text, which sums up the others only if a transformer "
                "made it; here it takes their mean."
            )
        return options

    def _training(self, entry: ModelEntry, preset: str | None) -> dict[str, Any]:
        common = settings_for(entry.name, {"record_epochs": False, **self.changes.training})
        check_of_networks(entry, self.changes.own.get(entry.name, ()))
        own = {**common, **self.changes.own.get(entry.name, {})}
        published = {**entry.training, **(entry.presets[preset].get("training", {}) if preset else {})}
        if published.get("text_encoder") and "text_encoder" not in own:
            self.notes.append(
                f"`{entry.name}` is published with {published['text_encoder']} trained along; here it reads the "
                "corpus's own text features."
            )
            own |= {key: value for key, value in _TEXT_SETTINGS.items() if key in published}
        return own


def _lowered(text: str) -> str:
    text = text.rstrip(".")
    return text[:1].lower() + text[1:]


def split_changes(assignments: Sequence[str]) -> Changes:
    """Sort ``key=value`` (a training setting of every model) and ``model.key=value`` (of one).

    Raises:
        AffectusError: no ``=``, an unknown model, or a key that is neither option nor setting.
    """
    from affectus.training.config import parse_assignments

    training: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, Any]] = {}
    for text in assignments:
        key = text.partition("=")[0].strip()
        model, dot, rest = key.partition(".")
        if dot:
            found, settings = parse_assignments([f"{rest}={text.partition('=')[2]}"], MODELS[model])
            options.setdefault(model, {}).update(found)
            own.setdefault(model, {}).update(settings)
            continue
        if "=" in text and key not in TrainingSettings.model_fields:
            raise unknown_name(
                "training setting",
                key,
                TrainingSettings.model_fields,
                where="--set; an option of one model is MODEL.KEY",
            )
        training.update(parse_assignments([text], MODELS[MAJORITY])[1])
    return Changes(training, {m: v for m, v in options.items() if v}, {m: v for m, v in own.items() if v})

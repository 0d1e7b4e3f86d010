"""What has to be trained on a corpus, and what the corpus lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from affectus.corpus import Corpus
from affectus.errors import AffectusError, unknown_name
from affectus.models import MODELS
from affectus.objectives import available_tasks
from affectus.studies.cells import Cell
from affectus.studies.published import Experiment
from affectus.training.config import settings_for
from affectus.vocabulary import AUDIO, KNOWN_MODALITIES, TEXT, VISION, Split, View

TABLES = ("claims", "2", "3", "4", "7", "5.5", "cost")
"""The parts of the reproduction, by the paper's numbers, in the order of the page."""
POLARITY, EMOTIONS, JOINT, PER_TASK = "polarity", "emotions", "joint", "per-task"
COMBINATIONS: Mapping[str, tuple[str, ...]] = {
    "T": (TEXT,),
    "A": (AUDIO,),
    "V": (VISION,),
    "TV": (TEXT, VISION),
    "TA": (TEXT, AUDIO),
    "AV": (AUDIO, VISION),
    "TAV": (TEXT, AUDIO, VISION),
}
"""The rows of Table 4, in its order."""
TASKS = (POLARITY, EMOTIONS)


def choose_tables(wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the parts to make, in the order of the page; all for None.

    Raises:
        AffectusError: a part is unknown.
    """
    for name in wanted or ():
        if name not in TABLES:
            raise unknown_name("table", name, TABLES, where="the reproduction of Akhtar et al. 2019")
    return tuple(name for name in TABLES if not wanted or name in wanted)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is trained on a corpus.

    Attributes:
        corpus: the corpus.
        split: which is judged.
        tasks: those of polarity and emotions that it has labels for.
        sets: the combinations of modalities that it allows, by their letters.
        context: some video has more than one utterance.
        systems: per system of ours other than MTMM-ES, per task, the name of its cell.
        cells: by name.
        costed: the cells whose cost is measured, joint and separate; none where the corpus has one task.
        lacks: what cannot be had on it, one sentence each.
    """

    corpus: Corpus
    split: str
    tasks: tuple[str, ...]
    sets: Mapping[str, tuple[str, ...]]
    context: bool
    systems: Mapping[str, Mapping[str, str]]
    cells: Mapping[str, Cell]
    costed: Mapping[str, Cell]
    lacks: tuple[str, ...]

    @property
    def full(self) -> str:
        """The letters of all modalities that the corpus has."""
        return list(self.sets)[-1]

    @property
    def main(self) -> str:
        """The name of the cell of the paper's own system: all modalities, all tasks."""
        return self.cell(self.full, JOINT if len(self.tasks) > 1 else self.tasks[0])

    @staticmethod
    def cell(letters: str, learning: str) -> str:
        """Return the name of a cell of MTMM-ES: its modalities, and ``joint`` or the task learned alone."""
        return f"{letters.lower()}-{learning}"


def make_plan(
    corpus: Corpus,
    experiment: Experiment,
    *,
    tables: Sequence[str],
    seeds: tuple[int, ...],
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    systems: Sequence[str] | None = None,
) -> Plan:
    """Work out the cells of the wanted tables.

    Args:
        corpus: to train and judge on.
        experiment: the packaged one.
        tables: which parts.
        seeds: of every cell.
        options: of MTMM-ES, over those of the experiment.
        training: settings, over those of the experiment and of the other systems.
        systems: the other systems of Table 7; None for all.

    Raises:
        AffectusError: the corpus has neither sentiment nor emotions, none of the three modalities, or nothing to judge.
    """
    present = [name for name in KNOWN_MODALITIES if name in corpus.modalities]
    tasks = tuple(task for task in TASKS if task in available_tasks(corpus.schemes))
    if not present:
        raise AffectusError(
            f"The corpus {corpus.name!r} has none of the paper's modalities",
            got=", ".join(corpus.modalities) or "no features",
            expected="one at least of: " + ", ".join(KNOWN_MODALITIES),
        )
    if not tasks:
        raise AffectusError(
            f"The corpus {corpus.name!r} has neither sentiment nor emotions",
            got=", ".join(corpus.schemes) or "no labels",
            expected="one at least of the label schemes: sentiment, emotions",
        )
    here = set(corpus.splits.tolist())
    split = Split.TEST if Split.TEST in here else Split.VALID
    for needed in (Split.TRAIN, split):
        corpus.rows(needed)
    sets = {letters: names for letters, names in COMBINATIONS.items() if set(names) <= set(present)}
    context = any(len(rows) > 1 for rows in corpus.recordings(Split.TRAIN))
    plan = Plan(corpus, str(split), tasks, sets, context, {}, {}, {}, _lacks(corpus, present, tasks, here, context))

    def ours(name: str, letters: str, learning: str, settings: Mapping[str, Any], **changes: Any) -> Cell:
        return Cell(
            name,
            experiment.model,
            tasks if learning == JOINT else (learning,),
            sets[letters],
            {**experiment.options, **options, **changes},
            {**experiment.training, **training, **settings},
            experiment.preset,
            View.CONTEXTUAL,
            seeds,
        )

    cells: dict[str, Cell] = {}
    learnings = (*tasks, JOINT) if len(tasks) > 1 else tasks
    last = learnings[-1]
    wanted = {plan.full}
    if "4" in tables:
        wanted = set(sets)
    elif "claims" in tables and plan.full == "TAV":
        wanted |= {letters for letters in sets if len(letters) == 2}
    trained = {"claims", "4", "7", "5.5"} & set(tables)
    for letters in sets if trained else ():
        if letters in wanted:
            only = learnings if letters == plan.full or "4" in tables else (last,)
            only = (last,) if trained == {"5.5"} else only
            cells |= {n: ours(n, letters, a, {}) for a in only for n in [plan.cell(letters, a)]}
    if {"claims", "7"} & set(tables) and last == JOINT:
        name = plan.cell(plan.full, PER_TASK)
        cells[name] = ours(name, plan.full, JOINT, {"select": "per_task"})
    if "claims" in tables and context:
        for name, changes in ABLATIONS.items():
            cells[f"{plan.main}-{name}"] = ours(f"{plan.main}-{name}", plan.full, last, {}, **changes)
    for name in systems or ():
        _ = MODELS[name]
    others = _systems(experiment.model, plan, training, seeds) if "7" in tables else {}
    others = {name: of for name, of in others.items() if systems is None or name in systems}
    cells |= {cell.name: cell for of in others.values() for cell in of.values()}
    costed = {a: ours(plan.cell(plan.full, a), plan.full, a, {}) for a in (JOINT, *tasks)} if last == JOINT else {}
    names = {system: {task: cell.name for task, cell in of.items()} for system, of in others.items()}
    return Plan(corpus, plan.split, tasks, sets, context, names, cells, costed, plan.lacks)


ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "no-attention": {"attention": "none"},
    "no-context": {"attention": "none", "context": False},
}
"""What the claims of attention and of context are tested against."""


def _systems(model: str, plan: Plan, training: Mapping[str, Any], seeds: tuple[int, ...]) -> dict[str, dict[str, Cell]]:
    """Return a cell per task for every registered model that takes the contextual view and such a task."""
    kinds = {name: task.kind for name, task in available_tasks(plan.corpus.schemes).items()}
    found: dict[str, dict[str, Cell]] = {}
    for name in MODELS:
        entry = MODELS[name]
        # majority stands beside every evaluation already
        if name in (model, "majority") or View.CONTEXTUAL not in entry.views:
            continue
        for task in plan.tasks:
            if kinds[task] in entry.kinds:
                cell = Cell(
                    f"system-{name.lower()}-{task}",
                    name,
                    (task,),
                    plan.sets[plan.full],
                    training=settings_for(name, training),
                    view=View.CONTEXTUAL,
                    seeds=seeds,
                )
                found.setdefault(name, {})[task] = cell
    return found


def _lacks(
    corpus: Corpus, present: Sequence[str], tasks: Sequence[str], splits: set[str], context: bool
) -> tuple[str, ...]:
    said = []
    missing = [name for name in KNOWN_MODALITIES if name not in present]
    if missing:
        said.append(f"It has no {' and no '.join(missing)}: the rows of Table 4 with them are left out.")
    others = [name for name in corpus.modalities if name not in KNOWN_MODALITIES]
    if others:
        said.append(f"Its {', '.join(others)} is not used: the paper knows text, audio and vision.")
    for task, words in ((POLARITY, "sentiment"), (EMOTIONS, "emotions")):
        if task not in tasks:
            said.append(f"It has no labels of {words}: nothing is said of {words}, nor of joint learning.")
    if Split.TEST not in splits:
        said.append(
            "It has no test split: its valid split is judged, on which epoch and thresholds were chosen, so the honest "
            "figures are better than on new data."
        )
    elif Split.VALID not in splits:
        said.append("It has no valid split: the honest figures are those of the last epoch and of thresholds of 0.5.")
    if not context:
        said.append("Every video is one utterance: there is no context, so nothing is said of context and attention.")
    return tuple(said)

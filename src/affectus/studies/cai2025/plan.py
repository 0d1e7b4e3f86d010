"""What has to be trained on a corpus: the cells of each of the paper's tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from affectus.corpus import Corpus
from affectus.errors import AffectusError, unknown_name
from affectus.models import MODELS
from affectus.models.base import ModelEntry
from affectus.objectives import available_tasks
from affectus.studies.cells import Cell
from affectus.studies.published import Experiment, load_experiment
from affectus.training.config import is_gradient_model, settings_for
from affectus.vocabulary import AUDIO, TEXT, VISION, Split, View

TABLES = ("claims", "comparison", "7", "8", "9", "10")
"""The parts of the reproduction in the order of the page; the comparison is Table 3, 4 or 5."""
COMPARISONS: Mapping[str, str] = {"mosi": "3", "mosei": "4", "sims": "5"}
"""Which table of the paper compares systems on which data set."""
MODEL, COMPLETE = "ufen_mtfn", "complete"
DEPTHS = (1, 2, 3, 4)
REMOVALS = ("self_attention", "convolution", "recurrent", "cross_modal", "encoder_decoder", "multi_task")
"""The rows of Table 9, as the model's switches are called."""
SETTINGS: Mapping[str, tuple[float, ...]] = {
    "learning_rate": (1e-3, 5e-3, 1e-4),
    "batch_size": (16, 32, 64),
    "epochs": (30, 50, 100),
    "patience": (4, 8, 10),
}
"""The rows of Table 10."""
LETTERS: Mapping[str, str] = {AUDIO: "A", TEXT: "T", VISION: "V"}
"""In the order in which Table 8 writes them."""
SIMPLE = "linear"
"""The system that a deep one has to beat."""


def choose_tables(wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the parts to make, in the order of the page; all for None. 3, 4 and 5 are the comparison.

    Raises:
        AffectusError: a part is unknown.
    """
    names = ["comparison" if name in COMPARISONS.values() else name for name in wanted or TABLES]
    for name in names:
        if name not in TABLES:
            known = (*TABLES, *COMPARISONS.values())
            raise unknown_name("table", name, known, where="the reproduction of Cai et al. 2025")
    return tuple(name for name in TABLES if name in names)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is trained on a corpus.

    Attributes:
        corpus: the corpus.
        experiment: the packaged one whose data set it is, or MOSI's.
        table: of the paper's comparison on that data set; None for another corpus.
        split: which is judged.
        task: what is predicted: intensity, or ratings where there is none.
        protocol: by which rules.
        tables: the parts that are made.
        cells: by name.
        parts: per table, the label of each row and the name of its cell.
        lacks: what cannot be had on it, one sentence each.
    """

    corpus: Corpus
    experiment: Experiment
    table: str | None
    split: str
    task: str
    protocol: str
    tables: tuple[str, ...]
    cells: Mapping[str, Cell]
    parts: Mapping[str, Mapping[tuple[tuple[str, str], ...], str]]
    lacks: tuple[str, ...]


def experiment_of(corpus: Corpus) -> tuple[Experiment, str | None]:
    """Return the packaged experiment of a corpus, by its name and range, and the number of its comparison."""
    name = corpus.name.lower().replace("-", "").replace("_", "")
    for data in ("mosei", "mosi", "sims"):
        if data in name:
            return load_experiment(f"cai2025_ufen_mtfn_{data}"), COMPARISONS[data]
    return load_experiment("cai2025_ufen_mtfn_mosi"), None


def make_plan(
    corpus: Corpus,
    *,
    tables: tuple[str, ...],
    seeds: tuple[int, ...],
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    systems: Sequence[str] | None = None,
) -> Plan:
    """Work out the cells of the wanted tables.

    Args:
        corpus: to train and judge on.
        tables: which parts.
        systems: which other systems to compare with; None for all.
        seeds: of every cell.
        options: of UFEN + MTFN, over those of the experiment.
        training: settings of every cell, over those of the experiment and of the other systems.

    Raises:
        AffectusError: the corpus has no label with real values, or nothing to judge; a system is unknown.
    """
    for name in systems or ():
        _ = MODELS[name]
    known = available_tasks(corpus.schemes)
    task = next((name for name in ("intensity", "ratings") if name in known), None)
    if task is None:
        raise AffectusError(
            f"The corpus {corpus.name!r} has no label with real values",
            got=", ".join(corpus.schemes) or "no labels",
            expected="the label scheme sentiment or ratings",
        )
    here = set(corpus.splits.tolist())
    split = Split.TEST if Split.TEST in here else Split.VALID
    train_rows = corpus.rows(Split.TRAIN)
    corpus.rows(split)
    experiment, table = experiment_of(corpus)
    untrained = tuple(name for name in corpus.modalities if not corpus.features[name].lengths[train_rows].any())
    modalities = tuple(name for name in corpus.modalities if name not in untrained)
    if training.get("text_encoder") and TEXT not in modalities:
        modalities = (TEXT, *modalities)
    if not modalities:
        raise AffectusError(f"The corpus {corpus.name!r} has no features, only a table")
    low, high = known[task].low, known[task].high
    sims = task == "intensity" and (low, high) == (-1.0, 1.0)
    view = View.ALIGNED if corpus.card.word_aligned else View.UNALIGNED

    def ours(name: str, changes: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None) -> Cell:
        return Cell(
            name,
            MODEL,
            (task,),
            modalities,
            {**experiment.options, **options, **(changes or {})},
            {**experiment.training, **training, **(settings or {})},
            experiment.preset,
            view,
            seeds,
        )

    cells: dict[str, Cell] = {COMPLETE: ours(COMPLETE)}
    parts: dict[str, dict[tuple[tuple[str, str], ...], str]] = {}

    def add(part: str, row: Mapping[str, str], cell: Cell) -> None:
        # a row that changes nothing is the complete system itself
        same = cells[COMPLETE]
        if (cell.options, cell.training) == (same.options, same.training) and cell.model == same.model:
            cell = same
        cells[cell.name] = cell
        parts.setdefault(part, {})[tuple(row.items())] = cell.name

    # the claims need the rows that they compare
    if {"7", "claims"} & set(tables):
        for depth in DEPTHS:
            add("7", {"layers": str(depth)}, ours(f"layers-{depth}", {"layers": depth}))
    if {"8", "claims"} & set(tables):
        named = [name for name in LETTERS if name in modalities]
        for count in range(len(named) + 1):
            for chosen in combinations(named, count):
                letters = "M" + "".join(LETTERS[name] for name in chosen)
                whole = count == len(named) == len(modalities)
                changes = {} if whole else {"subtasks": chosen}
                add("8", {"subtasks": letters}, ours(f"subtasks-{letters.lower()}", changes))
    if {"9", "claims"} & set(tables):
        for name in REMOVALS:
            add("9", {"without": name}, ours(f"without-{name.replace('_', '-')}", {name: False}))
        add("9", {"without": "none"}, ours(COMPLETE))
    if "10" in tables:
        for setting, values in SETTINGS.items():
            for value in values:
                shown = f"{value:g}"
                add(
                    "10",
                    {"setting": setting, "value": shown},
                    ours(f"{setting}-{shown}".replace("_", "-"), None, {setting: value}),
                )
    lacks = _lacks(corpus, task, table, here, untrained)
    if {"comparison", "claims"} & set(tables):
        for name in MODELS:
            if name in (MODEL, "majority") or (systems is not None and name not in systems):
                continue
            chosen_view = _view(MODELS[name], view)
            if chosen_view is None or known[task].kind not in MODELS[name].kinds:
                continue
            data = next((data for data, number in COMPARISONS.items() if number == table), "mosi")
            preset = data if data in MODELS[name].presets else None
            cell = Cell(f"system-{name}", name, (task,), modalities, {}, dict(training), preset, chosen_view, seeds)
            if not is_gradient_model(name):
                # a text encoder whose layers are trained stays frozen
                own = settings_for(name, training)
                cell = Cell(cell.name, name, (task,), modalities, {}, own, None, chosen_view, (0,))
            add("comparison", {"system": name}, cell)
        add("comparison", {"system": MODEL}, ours(COMPLETE))
    return Plan(
        corpus,
        experiment,
        table,
        str(split),
        task,
        "mmsa-sims" if sims else "cai2025",
        tables,
        cells,
        parts,
        lacks,
    )


def _view(entry: ModelEntry, wanted: View) -> View | None:
    """Return the view in which a system can be trained beside ours; None if there is none."""
    if wanted in entry.views:
        return wanted
    if View.UNALIGNED in entry.views:
        return View.UNALIGNED
    return None


def _lacks(corpus: Corpus, task: str, table: str | None, splits: set[str], untrained: Sequence[str]) -> tuple[str, ...]:
    said = []
    if table is None:
        said.append(
            "It is none of the paper's data sets: the configuration is that of MOSI, and no figure is published."
        )
    missing = [name for name in (TEXT, AUDIO, VISION) if name not in corpus.modalities]
    if missing:
        said.append(f"Its features lack {', '.join(missing)}.")
    if untrained:
        said.append(f"No training utterance has {', '.join(untrained)}: left out.")
    if task != "intensity":
        said.append("It has no sentiment intensity: its ratings are predicted instead.")
    if Split.TEST not in splits:
        said.append(
            "It has no test split: its valid split is judged, on which the epoch was chosen, so the figures are better "
            "than on new data."
        )
    return tuple(said)

"""The reproduction as a whole: train, judge, write the page."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affectus.corpus import load_corpus
from affectus.corpus.storage import corpus_hash
from affectus.errors import AffectusError
from affectus.evaluation import Evaluation, evaluate_run
from affectus.files import lock_folder, read_json
from affectus.models import MODELS
from affectus.studies.cai2025.plan import COMPLETE, MODEL, REMOVALS, SIMPLE, Plan, choose_tables, make_plan
from affectus.studies.cells import Outcome, StudyReporter, open_study, run_cells
from affectus.studies.claims import Comparison, claims_grid, put_to_test, sentences
from affectus.studies.tables import NOTHING, Grid, Page, Section, spread, summary
from affectus.studies.versions import versions
from affectus.training.run import listed_seeds
from affectus.vocabulary import Split

SHOWN: Mapping[str, tuple[str, ...]] = {
    "cai2025": (
        "acc2_negative_nonnegative",
        "acc2_negative_positive",
        "weighted_f1_negative_nonnegative",
        "weighted_f1_negative_positive",
        "acc7",
        "mae",
        "pearson",
    ),
    "mmsa-sims": ("acc2", "weighted_f1", "acc3", "acc5", "mae", "pearson"),
}
"""The paper's figures under each protocol."""
SHORT = {
    "acc2_negative_nonnegative": "Acc-2 (with 0)",
    "acc2_negative_positive": "Acc-2 (without 0)",
    "acc2": "Acc-2",
    "acc3": "Acc-3",
    "acc5": "Acc-5",
    "acc7": "Acc-7",
    "weighted_f1_negative_nonnegative": "F1 (with 0)",
    "weighted_f1_negative_positive": "F1 (without 0)",
    "weighted_f1": "F1",
    "mae": "MAE",
    "pearson": "r",
}
ERRORS = ("mae",)
"""Figures that are no share: three decimals, not per cent."""
WORDS = {
    "intensity.mae": "mean absolute error",
    "ratings.mae": "mean absolute error",
    "intensity.pearson": "correlation",
    "ratings.pearson": "correlation",
}
TITLES = {
    "7": "Table 7: layers of the feature extraction network",
    "8": "Table 8: whose heads are in the loss",
    "9": "Table 9: without one part",
    "10": "Table 10: hyper-parameters",
}
PARTS: Mapping[str, str] = {
    "self_attention": "self-attention",
    "convolution": "convolutions",
    "recurrent": "recurrent layer",
    "cross_modal": "cross-modal attention",
    "encoder_decoder": "encoder-decoder",
    "multi_task": "heads beside the predicting one",
}
"""What the switches of Table 9 remove, in words."""
HYPER_PARAMETERS: Mapping[str, str] = {
    "learning_rate": "learning rates",
    "batch_size": "batch sizes",
    "epochs": "numbers of epochs",
    "patience": "epochs of patience",
}
"""The settings of Table 10, in words."""


@dataclass
class _Judge:
    """Evaluates each cell once, when it is first asked for."""

    plan: Plan
    outcomes: Mapping[str, Outcome]
    say: Callable[[str], None]
    found: dict[tuple[str, str], Evaluation] = field(default_factory=dict)

    def values(self, cell: str, metric: str, split: str | None = None) -> tuple[float, ...]:
        """Return a metric of a cell, one value per seed; none if it could not be trained."""
        outcome = self.outcomes.get(cell)
        if outcome is None or outcome.run is None:
            return ()
        key = cell, split or self.plan.split
        if key not in self.found:
            self.say(f"judging {cell}")
            self.found[key] = evaluate_run(outcome.run, self.plan.corpus, split=key[1], protocol=self.plan.protocol)
        return tuple(self.found[key].values.get(f"{self.plan.task}.{metric}", ()))

    def mean(self, cell: str, metric: str, split: str) -> float:
        """Return the mean over seeds; NaN if there is none."""
        values = self.values(cell, metric, split)
        return sum(values) / len(values) if values else float("nan")

    def majority(self, metric: str) -> tuple[float, ...]:
        """Return the constant prediction's value."""
        self.values(COMPLETE, metric)
        found = next(iter(self.found.values()), None)
        name = f"{self.plan.task}.{metric}"
        return (found.majority[name],) if found and name in found.majority else ()


def reproduce(
    corpora: Sequence[str | Path],
    *,
    out: str | Path,
    seeds: int | Sequence[int] | None = None,
    jobs: int = 1,
    threads: int = 1,
    device: str = "auto",
    tables: Sequence[str] | None = None,
    systems: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    command: str = "",
    report: StudyReporter | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Page:
    """Repeat the paper's tables on one corpus or more, and put its claims to the test.

    Args:
        corpora: folders.
        out: the study's folder; with several corpora, each has a folder of its own in it. A study that was stopped goes
            on.
        seeds: the seeds, or how many; None for five.
        jobs: processes at once.
        threads: of torch, for each process.
        device: ``auto``, ``cpu`` or ``cuda``.
        tables: which parts (``plan.TABLES``, or 3, 4, 5 for the comparison); None for all.
        systems: which other systems to compare with; None for all that the corpus allows.
        options: of UFEN + MTFN, over those of the packaged experiment.
        training: settings of every system, over the published ones.
        command: as it was given, for the page; without absolute paths.
        report: told of the cells that are trained.
        say: told what is done besides.

    Raises:
        AffectusError: a corpus allows nothing of it, the folder holds another study or is in use, or no cell could be
            trained.
    """
    chosen = choose_tables(tables)
    wanted = 5 if seeds is None else seeds
    listed = listed_seeds(wanted)
    folders, out = [Path(folder) for folder in corpora], Path(out)
    if not folders:
        raise AffectusError("No corpus is given", remedy="Give its folder with --corpus")
    parts, hashes, notes = [], {}, []
    for number, folder in enumerate(folders):
        name = folder.resolve().name
        mine = out if len(folders) == 1 else out / f"{number}-{name}"
        plan = make_plan(
            load_corpus(folder),
            tables=chosen,
            seeds=listed,
            options=options or {},
            training=training or {},
            systems=systems,
        )
        sha = hashes[name] = corpus_hash(folder)
        with lock_folder(mine):
            changes = {"options": dict(options or {}), "training": dict(training or {})}
            open_study(mine, {"study": "cai2025", "corpus": sha, **changes})
            outcomes = run_cells(
                list(plan.cells.values()), folder, mine, jobs=jobs, threads=threads, device=device, report=report
            )
            failed = [o for o in outcomes.values() if o.failure]
            if len(failed) == len(outcomes):
                raise AffectusError("No system could be trained", where=mine, got=str(failed[0].failure).rstrip("."))
            judge = _Judge(plan, outcomes, say)
            sections = tuple(_section(part, plan, judge) for part in plan.tables)
        parts.append((f"{plan.corpus.name} ({name})", _about(plan, sha, failed, mine), sections))
        notes += [note for note in plan.experiment.notes if note not in notes]
    changed = {**(options or {}), **(training or {})}
    facts = {
        "study": "cai2025",
        "command": command,
        "date": str(datetime.date.today()),
        "versions": versions(),
        "seeds": list(listed),
        "changes": changed,
        "sha256": hashes,
    }
    paper = plan.experiment.paper
    head = (
        f"{paper.authors} {paper.year}. [{paper.title}]({paper.url}). {paper.venue}.",
        (f"Made by `{command}` on " if command else "Made on ")
        + f"{facts['date']} with "
        + ", ".join(f"{name} {version}" for name, version in versions().items())
        + f". Seeds {', '.join(map(str, listed))}"
        + (". Changed: " + ", ".join(f"`{key}={value}`" for key, value in changed.items()) if changed else "")
        + ".",
        "The epoch is chosen on valid. Shares in per cent, MAE and r as they are, mean ± standard deviation over "
        "seeds. *Published*: as the paper prints it; a question mark where there is a doubt (the JSON says which).",
        "\n".join(f"- {note}" for note in notes),
    )
    return Page("Cai et al. 2025, reproduced", head, tuple(parts), facts)


def _about(plan: Plan, sha: str, failed: Sequence[Outcome], out: Path) -> tuple[str, ...]:
    corpus = plan.corpus
    sizes = ", ".join(
        f"{split} {len(corpus.rows(split)):,} utterances" for split in Split if (corpus.splits == split).any()
    )
    cell = plan.cells[COMPLETE]
    text = [
        f"Corpus `{sha[:16]}`: {sizes}. Judged: {plan.split}, {plan.task}, protocol `{plan.protocol}`. Modalities: "
        f"{', '.join(cell.modalities or ())}; view {cell.view}.",
        *plan.lacks,
    ]
    for outcome in failed:
        reason = str(outcome.failure).replace(str(out.resolve()), "OUT").replace(str(out), "OUT")
        text.append(f"The cell `{outcome.cell.name}` failed and is left out: {reason}")
    return tuple(text)


def _section(part: str, plan: Plan, judge: _Judge) -> Section:
    if part == "claims":
        return _claims(plan, judge)
    if part == "comparison":
        return _comparison(plan, judge)
    return _table(part, TITLES[part], plan.parts[part], plan, judge)


def _table(
    part: str,
    title: str,
    rows: Mapping[tuple[tuple[str, str], ...], str],
    plan: Plan,
    judge: _Judge,
    extra: Mapping[str, Sequence[str]] | None = None,
) -> Section:
    number = plan.table if part == "comparison" else part
    metrics = [m for m in SHOWN[plan.protocol] if judge.values(COMPLETE, m)]
    results = plan.experiment.results if plan.table else None
    keys = [name for name, _ in next(iter(rows))]
    cells: list[tuple[str, ...]] = []
    data: list[dict[str, Any]] = []
    for row, cell in rows.items():
        line = [value.replace("_", " ") if part == "9" else value for _, value in row]
        for metric in metrics:
            name = f"{plan.task}.{metric}"
            published = results.figure(number, dict(row), name) if results and number else None
            values = judge.values(cell, metric)
            scale, digits = (1.0, 3) if metric in (*ERRORS, "pearson") else (100.0, 1)
            if results is not None:
                doubt = "?" if published and published[1] else ""
                line.append(NOTHING if published is None else f"{scale * published[0]:.{digits}f}{doubt}")
            line.append(spread(values, scale=scale, digits=digits))
            data.append(
                {
                    **dict(row),
                    "cell": cell,
                    "metric": name,
                    "published": published[0] if published else None,
                    "doubt": published[1] if published else None,
                    "here": summary(values),
                }
            )
        for column in (extra or {}).values():
            line.append(column[len(cells)])
        cells.append(tuple(line))
    if part == "comparison":
        majority = ["constant"]
        for metric in metrics:
            scale, digits = (1.0, 3) if metric in (*ERRORS, "pearson") else (100.0, 1)
            majority += [NOTHING] if results is not None else []
            majority.append(spread(judge.majority(metric), scale=scale, digits=digits))
        cells.append((*majority, *([NOTHING] * len(extra or {}))))
    head = list(keys)
    for metric in metrics:
        head += [f"{SHORT[metric]}, published", f"{SHORT[metric]}, here"] if results is not None else [SHORT[metric]]
    head += list(extra or {})
    return Section(title, (), (Grid(title, tuple(head), tuple(cells), text_columns=len(keys)),), data)


def _comparison(plan: Plan, judge: _Judge) -> Section:
    title = f"Table {plan.table}: the systems" if plan.table else "The systems compared"
    rows = plan.parts["comparison"]
    order = sorted(rows, key=lambda row: (judge.mean(rows[row], "mae", plan.split), row))
    parameters, seconds = [], []
    for row in order:
        counted, spent = _costs(judge.outcomes[rows[row]])
        parameters.append(counted)
        seconds.append(spent)
    section = _table(
        "comparison",
        title,
        {row: rows[row] for row in order},
        plan,
        judge,
        {"parameters": parameters, "seconds to train": seconds},
    )
    years = sorted({p.short for row in order for p in [MODELS[dict(row)["system"]].paper] if p})
    text = (
        "Every registered system that can be trained on this corpus in this view, with its published settings, sorted "
        "by the error. A text encoder that is trained by the others is frozen for systems without gradients. Seconds: "
        "of one seed, on a shared machine. Papers: " + "; ".join(years) + ".",
    )
    return Section(section.title, text, section.grids, section.data)


def _costs(outcome: Outcome) -> tuple[str, str]:
    if outcome.run is None:
        return NOTHING, NOTHING
    results = [read_json(outcome.run.seed_folder(seed) / "result.json") for seed in outcome.run.seeds]
    parameters = results[0].get("parameters")
    seconds = sum(result["seconds"] for result in results) / len(results)
    return NOTHING if parameters is None else f"{parameters:,}", f"{seconds:.0f}"


def _claims(plan: Plan, judge: _Judge) -> Section:
    tested = put_to_test(
        _comparisons(plan, judge),
        judge.outcomes,
        plan.corpus,
        split=plan.split,
        oracle=lambda cell, metric: (),
        protocol=plan.protocol,
    )
    text = (
        "Paired bootstrap over videos, 10,000 draws; p corrected for all rows of the table (Holm). A claim holds if p "
        "is below .05 in its favour; it does not hold if p is below .05 against it, or if the 95 % interval leaves no "
        "room for a gain of .005; else it cannot be told from this data. Points are hundredths; of an error, less is "
        "better.",
        "\n".join(f"- {sentence}" for sentence in sentences(tested, WORDS)),
    )
    return Section("Do the claims hold?", text, (claims_grid(tested, WORDS),), [one.to_json() for one in tested])


def _comparisons(plan: Plan, judge: _Judge) -> list[Comparison]:
    metrics = [(f"{plan.task}.pearson", False), (f"{plan.task}.mae", True)]
    chosen_on = Split.VALID if (plan.corpus.splits == Split.VALID).any() else plan.split
    found = []

    def claim(words: str, first: str, second: str, against: str = "") -> None:
        for metric, lower in metrics:
            gain = _published_gain(plan, first, second, metric)
            found.append(Comparison(words, metric, first, second, published=gain, against=against, lower=lower))

    depths = {dict(row)["layers"]: cell for row, cell in plan.parts["7"].items()}
    for depth, cell in depths.items():
        if cell != COMPLETE:
            claim(f"Two layers of convolution beat {depth}", cell, COMPLETE)
    subtasks = {dict(row)["subtasks"]: cell for row, cell in plan.parts["8"].items()}
    for letters, cell in subtasks.items():
        if cell != COMPLETE:
            claim("The loss of every modality's head helps", cell, COMPLETE, f"{letters} alone")
    removed = {dict(row)["without"]: cell for row, cell in plan.parts["9"].items()}
    for name in REMOVALS:
        claim(f"It needs its {PARTS[name]}", removed[name], COMPLETE)
    # Table 10 where it is trained: against the row of the value that the paper settles on, whatever --set changed
    tuned = {(dict(row)["setting"], dict(row)["value"]): cell for row, cell in plan.parts.get("10", {}).items()}
    for (setting, value), cell in tuned.items():
        settled = f"{plan.experiment.training[setting]:g}"
        if value != settled:
            words = f"Of the {HYPER_PARAMETERS[setting]}, {settled} is best"
            claim(words, cell, tuned[setting, settled], f"{value} instead")
    systems = {dict(row)["system"]: cell for row, cell in plan.parts["comparison"].items()}
    if SIMPLE in systems:
        claim("UFEN + MTFN beats a linear model", systems[SIMPLE], COMPLETE)
    rivals = [name for name in systems if name not in (MODEL, SIMPLE) and judge.values(systems[name], "mae")]
    if rivals:
        # the rival is chosen where a choice may look
        best = min(rivals, key=lambda name: judge.mean(systems[name], "mae", chosen_on))
        claim("UFEN + MTFN beats the best other system", systems[best], COMPLETE, f"{best}, best on {chosen_on}")
    return found


def _published_gain(plan: Plan, first: str, second: str, metric: str) -> float | None:
    """Return what the paper's own table gives as the difference of two cells."""
    if plan.table is None:
        return None
    for part, rows in plan.parts.items():
        number = plan.table if part == "comparison" else part
        by_cell = {cell: dict(row) for row, cell in rows.items()}
        if first in by_cell and second in by_cell:
            pair = [plan.experiment.results.figure(number, by_cell[cell], metric) for cell in (first, second)]
            if pair[0] and pair[1]:
                return pair[1][0] - pair[0][0]
    return None

"""The reproduction as a whole: train, judge, write the page."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from affectus.corpus import load_corpus
from affectus.corpus.storage import corpus_hash
from affectus.errors import AffectusError
from affectus.files import lock_folder
from affectus.studies.akhtar2019.counts import section55, table2, table3
from affectus.studies.akhtar2019.figures import METRICS, gains, table4, table7
from affectus.studies.akhtar2019.judging import HONEST, ORACLE, Judge
from affectus.studies.akhtar2019.plan import EMOTIONS, JOINT, PER_TASK, POLARITY, Plan, choose_tables, make_plan
from affectus.studies.cells import Outcome, StudyReporter, open_study, run_cells
from affectus.studies.claims import Comparison, claims_grid, put_to_test, sentences
from affectus.studies.measuring import Cost, measure_once
from affectus.studies.published import Experiment, load_experiment
from affectus.studies.tables import NOTHING, Grid, Page, Section
from affectus.studies.versions import versions
from affectus.vocabulary import Split

EXPERIMENT = "akhtar2019_mtmm_es_mosei"
WORDS = {
    "polarity.accuracy": "accuracy of sentiment",
    "polarity.weighted_f1": "F1 of sentiment",
    "emotions.weighted_f1": "F1 of emotions",
    "emotions.weighted_accuracy": "W-Acc of emotions",
}
TESTED = {POLARITY: ("polarity.accuracy",), EMOTIONS: METRICS[EMOTIONS]}
"""In which figures the claims are tested. The F1 of sentiment says nearly the same as its accuracy."""


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
        seeds: the seeds, or how many; None for the experiment's.
        jobs: processes at once.
        threads: of torch, for each process.
        device: ``auto``, ``cpu`` or ``cuda``.
        tables: which parts (``plan.TABLES``); None for all.
        systems: the other systems of Table 7; None for all that the corpus allows.
        options: of MTMM-ES, over those of the packaged experiment.
        training: settings of every system, over the published ones.
        command: as it was given, for the page; without absolute paths.
        report: told of the cells that are trained.
        say: told what is done besides.

    Raises:
        AffectusError: a corpus allows nothing of it, the folder holds another study or is in use, or no cell could be
            trained.
    """
    experiment, chosen = load_experiment(EXPERIMENT), choose_tables(tables)
    listed = experiment.seeds if seeds is None else seeds
    listed = tuple(range(listed)) if isinstance(listed, int) else tuple(listed or (0,))
    folders, out = [Path(folder) for folder in corpora], Path(out)
    if not folders:
        raise AffectusError("No corpus is given", remedy="Give its folder with --corpus")
    names = _names(folders)
    # what a corpus does not allow is said before hours are spent on another
    plans = [
        make_plan(
            load_corpus(folder),
            experiment,
            tables=chosen,
            seeds=listed,
            options=options or {},
            training=training or {},
            systems=systems,
        )
        for folder in folders
    ]
    parts, hashes, judged = [], {}, set(listed)
    for folder, name, plan in zip(folders, names, plans, strict=True):
        mine = out if len(folders) == 1 else out / name
        sha = hashes[name] = corpus_hash(folder)
        with lock_folder(mine):
            changes = {"options": dict(options or {}), "training": dict(training or {})}
            open_study(mine, {"study": "akhtar2019", "corpus": sha, **changes})
            cells = list(plan.cells.values())
            outcomes = run_cells(cells, folder, mine, jobs=jobs, threads=threads, device=device, report=report)
            # the folder may hold more seeds than were asked for now; they are judged too
            judged |= {seed for outcome in outcomes.values() if outcome.run for seed in outcome.run.seeds}
            failed = [outcome for outcome in outcomes.values() if outcome.failure]
            if failed and len(failed) == len(outcomes):
                raise AffectusError("No system could be trained", where=mine, got=str(failed[0].failure).rstrip("."))
            judge = Judge(outcomes, plan.corpus, plan.split, say)
            sections = _sections(chosen, plan, judge, experiment, folder, mine, sha, threads, say)
        parts.append(_part(plan, name, sha, failed, mine, sections))
    seeds_shown = tuple(sorted(judged))
    return Page(
        "Akhtar et al. 2019, reproduced",
        _head(experiment, seeds_shown, command, options, training),
        tuple(parts),
        {**_facts(seeds_shown, command, options, training), "sha256": hashes},
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each corpus's folder of runs; a number tells namesakes apart."""
    names: list[str] = []
    for folder in folders:
        plain = "".join(c if c.isalnum() else "-" for c in folder.resolve().name.lower()).strip("-") or "corpus"
        names.append(plain if plain not in names else f"{plain}-{len(names) + 1}")
    return names


def _sections(
    chosen: Sequence[str],
    plan: Plan,
    judge: Judge,
    experiment: Experiment,
    folder: Path,
    out: Path,
    sha: str,
    threads: int,
    say: Callable[[str], None],
) -> tuple[Section, ...]:
    results = experiment.results
    main = judge.outcomes[plan.main].run if plan.main in judge.outcomes else None
    makers: dict[str, Callable[[], Section]] = {
        "claims": lambda: _claims(plan, judge, experiment),
        "2": lambda: table2(plan.corpus, results),
        "3": lambda: table3(plan.corpus, results),
        "4": lambda: table4(plan, judge, results),
        "7": lambda: table7(plan, judge, results),
        "5.5": lambda: section55(plan, [main] if main else [], results.thresholds),
        "cost": lambda: _cost(plan, folder, out, sha, threads, say),
    }
    made = []
    for name in chosen:
        say(f"making {name}")
        made.append(makers[name]())
    return tuple(made)


def _claims(plan: Plan, judge: Judge, experiment: Experiment) -> Section:
    tested = put_to_test(
        _comparisons(plan, judge, experiment),
        judge.outcomes,
        plan.corpus,
        split=plan.split,
        oracle=lambda cell, metric: judge.values(cell, ORACLE, metric),
    )
    text = (
        "Paired bootstrap over videos, 10,000 draws, of the honest figures; p corrected for all rows of the table "
        "(Holm). A claim holds if p is below .05 in its favour; it does not hold if p is below .05 against it, or if "
        "the 95 % interval leaves no room for a gain of half a point; else it cannot be told from this data. Beside it "
        "the paired t-test over seeds, not corrected, which asks whether another training would show the same.",
        "\n".join(f"- {sentence}" for sentence in sentences(tested, WORDS)),
    )
    return Section("Do the claims hold?", text, (claims_grid(tested, WORDS),), [one.to_json() for one in tested])


def _comparisons(plan: Plan, judge: Judge, experiment: Experiment) -> list[Comparison]:
    published = gains(experiment.results)
    metrics = [(task, metric) for task in plan.tasks for metric in TESTED[task]]
    both = len(plan.tasks) > 1
    no_joint = "" if both else f"the corpus has labels of {plan.tasks[0]} alone"
    no_context = "" if plan.context else "every video is one utterance, so there is no context"
    found = []
    for learning, claim in (
        (JOINT, "Joint learning beats each task learned alone"),
        (PER_TASK, "Joint learning, epoch per task, beats each task learned alone"),
    ):
        for task, metric in metrics:
            first, second = (plan.cell(plan.full, kind) if both else None for kind in (task, learning))
            paper = published.get(metric) if learning == JOINT else None
            found.append(Comparison(claim, metric, first, second, no_joint, paper))
    for name, claim in (
        ("no-attention", "Attention over context helps, against none"),
        ("no-context", "Context helps, against neither context nor attention"),
    ):
        for _, metric in metrics:
            first, second = (f"{plan.main}-{name}", plan.main) if plan.context else (None, None)
            found.append(Comparison(claim, metric, first, second, no_context))
    last = JOINT if both else plan.tasks[0]
    pairs = [letters for letters in plan.sets if len(letters) == 2]
    for _, metric in metrics:
        claim = "Three modalities beat the best two"
        if plan.full != "TAV":
            why = f"the corpus has {len(plan.full)} of the three modalities"
            found.append(Comparison(claim, metric, None, None, why))
            continue
        # the pair is chosen where a choice may look
        best = max(pairs, key=lambda letters: judge.on_valid(plan.cell(letters, last), metric))
        found.append(Comparison(claim, metric, plan.cell(best, last), plan.main, against=f"{best}, best on valid"))
    return found


def _cost(plan: Plan, folder: Path, out: Path, sha: str, threads: int, say: Callable[[str], None]) -> Section:
    title = "One joint model against separate ones"
    if not plan.costed:
        return Section(title, (f"The corpus has labels of {plan.tasks[0]} alone: there is nothing to join.",))
    path = out / "cost.json"
    costs: dict[str, Cost] = {}
    for learning, cell in plan.costed.items():
        say(f"measuring {cell.name}")
        costs[learning], _ = measure_once(path, learning, cell, folder, plan.split, identity=sha, threads=threads)
    return _cost_section(title, plan, costs, threads)


def _cost_section(title: str, plan: Plan, costs: Mapping[str, Cost], threads: int) -> Section:
    apart = [costs[task] for task in plan.tasks]
    peaks = [cost.peak_bytes for cost in apart]
    together = Cost(
        parameters=sum(cost.parameters or 0 for cost in apart),
        epoch_seconds=sum(cost.epoch_seconds for cost in apart),
        predict_seconds=sum(cost.predict_seconds for cost in apart),
        peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
    )
    named = {
        **{f"{task} alone": costs[task] for task in plan.tasks},
        "separate, together": together,
        JOINT: costs[JOINT],
    }
    rows = [(name, *_cost_cells(cost)) for name, cost in named.items()]
    joint = costs[JOINT]
    ratios = (
        _ratio(joint.parameters, together.parameters),
        _ratio(joint.epoch_seconds, together.epoch_seconds),
        _ratio(joint.predict_seconds, together.predict_seconds),
        _ratio(joint.peak_bytes, together.peak_bytes),
    )
    rows.append(("joint / separate", *ratios))
    head = ("model", "parameters", "seconds per epoch", f"seconds to predict {plan.split}", "peak memory, MiB")
    notes = (
        f"All modalities of the corpus; each measured by itself in a new process, threads: {threads}. Memory: the "
        "most that training held above libraries and corpus. Separate models are trained one after the other: their "
        "seconds and parameters add up, their memory is the larger one's.",
    )
    text = ("The paper claims that one joint model is less complex than separate ones, and gives no figures.",)
    data = {name: cost.to_json() for name, cost in named.items()}
    return Section(title, text, (Grid("Parameters, time and memory", head, tuple(rows), notes),), data)


def _cost_cells(cost: Cost) -> tuple[str, str, str, str]:
    memory = NOTHING if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:,.0f}"
    return f"{cost.parameters or 0:,}", f"{cost.epoch_seconds:.2f}", f"{cost.predict_seconds:.3f}", memory


def _ratio(first: float | None, second: float | None) -> str:
    return f"{first / second:.2f}" if first is not None and second else NOTHING


def _part(
    plan: Plan, name: str, sha: str, failed: Sequence[Outcome], out: Path, sections: tuple[Section, ...]
) -> tuple[str, tuple[str, ...], tuple[Section, ...]]:
    corpus = plan.corpus
    sizes = ", ".join(
        f"{split} {len(corpus.recordings(split)):,} videos, {len(corpus.rows(split)):,} utterances"
        for split in Split
        if (corpus.splits == split).any()
    )
    widths = ", ".join(f"{modality} {corpus.dims[modality]}" for modality in plan.sets[plan.full])
    text = [f"Corpus `{sha[:16]}`: {sizes}. Features: {widths}. Judged: {plan.split}.", *plan.lacks]
    for outcome in failed:
        reason = str(outcome.failure).replace(str(out.resolve()), "OUT").replace(str(out), "OUT")
        text.append(f"The cell `{outcome.cell.name}` failed and is left out: {reason}")
    return f"{corpus.name} ({name})", tuple(text), sections


def _changes(options: Mapping[str, Any] | None, training: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**(options or {}), **(training or {})}


def _head(
    experiment: Experiment,
    seeds: Sequence[int],
    command: str,
    options: Mapping[str, Any] | None,
    training: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    paper = experiment.paper
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    made = f"Made by `{command}` on" if command else "Made on"
    changes = _changes(options, training)
    said = [
        f"{paper.authors} {paper.year}. [{paper.title}]({paper.url}). {paper.venue}.",
        f"{made} {datetime.date.today()} with {used}. Seeds {', '.join(map(str, seeds))}. Configuration: the "
        f"packaged experiment `{EXPERIMENT}`"
        + (", changed: " + ", ".join(f"`{k}={v}`" for k, v in changes.items()) if changes else "")
        + ".",
    ]
    return (*said, "\n".join(f"- {note}" for note in experiment.notes))


def _facts(
    seeds: Sequence[int], command: str, options: Mapping[str, Any] | None, training: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "study": "akhtar2019",
        "experiment": EXPERIMENT,
        "command": command,
        "date": str(datetime.date.today()),
        "versions": versions(),
        "seeds": list(seeds),
        "changes": _changes(options, training),
        "protocols": {"honest": HONEST, "oracle": ORACLE},
    }

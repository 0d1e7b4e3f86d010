"""The benchmark of one corpus: every model trained, judged and ranked, beside the published figures."""

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from affectus.corpus import load_corpus
from affectus.corpus.storage import corpus_hash
from affectus.errors import AffectusError
from affectus.files import lock_folder, read_json
from affectus.models import MODELS
from affectus.parallel import Executor
from affectus.studies.benchmarking.judging import DRAWS, Judge
from affectus.studies.benchmarking.plan import (
    LINEAR,
    MAJORITY,
    NEIGHBOURS,
    SIMPLE,
    Changes,
    Plan,
    make_plan,
)
from affectus.studies.cells import Outcome, StudyReporter, open_study, run_cells
from affectus.studies.claims import p_text
from affectus.studies.measuring import EPOCHS, Cost, measure_once
from affectus.studies.published import Reported, reported
from affectus.studies.tables import NOTHING, Grid, Page, Section, spread, summary
from affectus.studies.versions import versions
from affectus.training.config import is_gradient_model
from affectus.training.run import listed_seeds
from affectus.vocabulary import Split

NUMBERS = ("mae", "pearson", "ccc")
"""Figures that are no share: three decimals, not per cent."""
MAIN = (
    "mae",
    "pearson",
    "acc2_negative_nonnegative",
    "acc2_negative_positive",
    "acc2",
    "acc5",
    "acc7",
    "accuracy",
    "weighted_f1",
    "weighted_accuracy",
)
"""The figures of the second table, if a task has them."""
COST_FILE = "cost.json"
WORSE, NOT_BETTER = "**worse**", "**not better**"
"""What a deep model is against a linear one; bold, so that nobody overlooks it."""


def benchmark(
    corpus: str | Path,
    *,
    out: str | Path,
    models: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 5,
    tasks: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    view: str | None = None,
    protocol: str | None = None,
    rank_by: str | None = None,
    split: str | None = None,
    changes: Changes | None = None,
    costs: bool = True,
    jobs: int = 1,
    threads: int = 1,
    device: str = "auto",
    command: str = "",
    report: StudyReporter | None = None,
    say: Callable[[str], None] = lambda _: None,
    executor: Executor | None = None,
) -> Page:
    """Train every model that fits a corpus, judge all of them alike, and rank them.

    Args:
        corpus: its folder.
        out: the study's folder; one that was stopped goes on, and more models or seeds are added.
        models: their names; None for all. The simple baselines are always there.
        seeds: the seeds, or how many.
        tasks: what to predict; None for the corpus's main one.
        modalities: which to read; None for all.
        view: in which models are trained, or ``any`` for each model's own; None for the corpus's own.
        protocol: of the evaluation; None for the field's on this data set.
        rank_by: a figure such as ``intensity.mae``; None for that of the first task.
        split: which to judge; None for test, or valid where there is no test.
        changes: of settings.
        costs: measure each model's peak memory and seconds per epoch in a process of its own.
        jobs: processes at once.
        threads: of torch, for each process.
        device: ``auto``, ``cpu`` or ``cuda``.
        command: as it was given, for the page; without absolute paths.
        report: told of the cells that are trained.
        say: told what is done besides.
        executor: trains the models on other machines.

    Raises:
        AffectusError: the corpus or a setting does not fit, the folder holds another study or is in use, or no model
            could be trained.
    """
    folder, out, changes = Path(corpus), Path(out), changes or Changes.none()
    listed = listed_seeds(seeds)
    plan = make_plan(
        load_corpus(folder),
        seeds=listed,
        models=models,
        tasks=tasks,
        modalities=modalities,
        view=view,
        protocol=protocol,
        rank_by=rank_by,
        split=split,
        changes=changes,
    )
    sha = corpus_hash(folder)
    with lock_folder(out):
        open_study(out, study_facts("benchmark", sha, plan, changes.training))
        outcomes = run_cells(
            list(plan.cells.values()),
            folder,
            out,
            jobs=jobs,
            threads=threads,
            device=device,
            report=report,
            executor=executor,
        )
        check_any(outcomes, out)
        judge = Judge(outcomes, plan.corpus, plan.split, plan.protocol, say)
        check_any(outcomes, out, judge)
        measured = _measured(plan, judge, folder, out, sha, threads, say) if costs else {}
    sections = (_ranking(plan, judge, measured, out, threads if costs else None), _beside(plan, judge))
    part = (f"{plan.corpus.name} ({folder.resolve().name})", _about(plan, sha, judge, out), sections)
    return Page(
        f"Benchmark: {plan.corpus.name}",
        page_head(listed, command, changes),
        (part,),
        page_facts("benchmark", listed, command, changes, {folder.resolve().name: sha}),
    )


def study_facts(study: str, sha: str, plan: Plan, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes two calls one study; models, seeds and their settings may differ."""
    return {
        "study": study,
        "corpus": sha,
        "tasks": [task.name for task in plan.tasks],
        "modalities": list(plan.modalities),
        "view": plan.view,
        "split": plan.split,
        "training": dict(training),
    }


def check_any(outcomes: Mapping[str, Outcome], out: Path, judge: Judge | None = None) -> None:
    """Check that a model at least could be trained and judged.

    Raises:
        AffectusError: none could.
    """
    if judge is not None and not judge.judged:
        raise AffectusError("No model could be judged", where=out, got=next(iter(judge.failures.values())).rstrip("."))
    failed = [outcome for outcome in outcomes.values() if outcome.failure]
    if len(failed) == len(outcomes):
        raise AffectusError("No model could be trained", where=out, got=str(failed[0].failure).rstrip("."))


def page_head(seeds: Sequence[int], command: str, changes: Changes) -> tuple[str, ...]:
    """Return the paragraphs that say how a page was made."""
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    made = f"Made by `{command}` on" if command else "Made on"
    changed = ", ".join(f"`{one}`" for one in changes.shown())
    return (
        f"{made} {datetime.date.today()} with {used}. Seeds {', '.join(map(str, seeds))}. Every model has its "
        "published settings"
        + (f", changed: {changed}" if changed else "")
        + ". Epochs and thresholds are chosen on valid.",
    )


def page_facts(
    study: str, seeds: Sequence[int], command: str, changes: Changes, hashes: Mapping[str, str]
) -> dict[str, Any]:
    """Return how a page was made as plain data."""
    return {
        "study": study,
        "command": command,
        "date": str(datetime.date.today()),
        "versions": versions(),
        "seeds": list(seeds),
        "changes": changes.to_json(),
        "sha256": dict(hashes),
    }


def figure_text(values: Sequence[float], metric: str) -> str:
    """Return mean ± standard deviation as a table shows it.

    >>> figure_text([0.78, 0.80], "polarity.accuracy"), figure_text([0.9512], "intensity.mae")
    ('79.0 ± 1.4', '0.951')
    """
    scale, digits = scale_of(metric)
    return spread(values, scale=scale, digits=digits)


def scale_of(metric: str) -> tuple[float, int]:
    """Return the factor and the decimals with which a figure is shown."""
    return (1.0, 3) if metric.rpartition(".")[2] in NUMBERS else (100.0, 1)


def _interval(metric: str, bounds: tuple[float, float] | None) -> str:
    if bounds is None or any(math.isnan(bound) for bound in bounds):
        return NOTHING
    scale, digits = scale_of(metric)
    return f"[{scale * bounds[0]:.{digits}f}, {scale * bounds[1]:.{digits}f}]"


def _measured(
    plan: Plan, judge: Judge, folder: Path, out: Path, sha: str, threads: int, say: Callable[[str], None]
) -> dict[str, Cost]:
    found = {}
    for name in judge.judged:
        if name in SIMPLE and name != LINEAR:
            continue
        say(f"measuring {name}")
        try:
            found[name], _ = measure_once(
                out / COST_FILE, name, plan.cells[name], folder, plan.split, identity=sha, threads=threads
            )
        except AffectusError:
            continue  # its row stays without a cost
    return found


def ranked(judge: Judge, metric: str, lower: bool) -> list[str]:
    """Return the cells from the best to the worst by their mean; those without the figure come last."""

    def key(name: str) -> tuple[bool, float, str]:
        mean = judge.judged[name].mean(metric)
        return math.isnan(mean), (mean if lower else -mean), name

    return sorted(judge.judged, key=key)


def chosen_on_valid(judge: Judge, names: Sequence[str], metric: str, lower: bool) -> str | None:
    """Return the cell that is best on valid, where a choice may look; None without valid."""
    known = {name: judge.judged[name].valid_mean(metric) for name in names}
    known = {name: mean for name, mean in known.items() if not math.isnan(mean)}
    return (min if lower else max)(known, key=lambda name: known[name]) if known else None


def is_deep(name: str, plan: Plan) -> bool:
    """True if a cell is trained by gradient."""
    return is_gradient_model(plan.cells[name].model)


def _ranking(plan: Plan, judge: Judge, costs: Mapping[str, Cost], out: Path, threads: int | None) -> Section:
    metric, lower = plan.rank_by, plan.lower
    order = ranked(judge, metric, lower)
    best = order[0]
    intervals, against_best = judge.intervals(metric), judge.against(best, order[1:], metric)
    simple = [name for name in (LINEAR, NEIGHBOURS) if name in judge.judged]
    yardstick = (chosen_on_valid(judge, simple, metric, lower) or simple[0]) if simple else None
    deep = [name for name in order if is_deep(name, plan)]
    against_simple = judge.against(yardstick, deep, metric) if yardstick else {}
    rows, data = [], []
    for name in [*order, *judge.failures]:
        cell, judged = plan.cells[name], judge.judged.get(name)
        paper = MODELS[cell.model].paper
        values = judged.values.get(metric, ()) if judged else ()
        versus, simpler = against_best.get(name), against_simple.get(name)
        parameters, seconds = _spent(judge.outcomes[name])
        cost = costs.get(name)
        verdict = None
        if judged and yardstick and name in deep:
            gain = judged.mean(metric) - judge.judged[yardstick].mean(metric)
            verdict = {"yes": "better", "no": WORSE}.get(simpler.better if simpler else "open")
            verdict = verdict or ("open" if (gain < 0 if lower else gain > 0) else NOT_BETTER)
        place = str(order.index(name) + 1) if judged else NOTHING
        rows.append(
            (
                place,
                f"`{name}`",
                paper.short if paper else "baseline",
                figure_text(values, metric) if judged else "failed",
                _interval(metric, intervals.get(name)),
                figure_text(judged.valid.get(metric, ()), metric) if judged else NOTHING,
                "best" if name == best else (p_text(versus.p_videos_corrected) if versus else NOTHING),
                verdict or NOTHING,
                NOTHING if parameters is None else f"{parameters:,}",
                NOTHING if seconds is None else f"{seconds:,.1f}",
                NOTHING if cost is None or cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:,.0f}",
            )
        )
        data.append(
            {
                "rank": order.index(name) + 1 if judged else None,
                "cell": name,
                "model": cell.model,
                "metric": metric,
                "here": summary(values),
                "interval": intervals.get(name),
                "valid": summary(judged.valid.get(metric, ())) if judged else None,
                "against_best": versus.to_json() if versus else None,
                "against_linear": simpler.to_json() if simpler else None,
                "verdict_against_linear": verdict.strip("*") if verdict else None,
                "parameters": parameters,
                "seconds": seconds,
                "cost": cost.to_json() if cost else None,
                "failure": _reason(judge.failures[name], out) if not judged else None,
            }
        )
    head = (
        *(
            "#",
            "model",
            "paper",
            f"{metric} {'↓' if lower else '↑'}",
            "95 %",
            f"on {Split.VALID}",
            "p against the best",
        ),
        *("against linear", "parameters", "seconds", "MiB"),
    )
    notes = (
        f"Mean ± standard deviation over seeds on {plan.split}; models without gradients have one fit. 95 %: of the "
        f"mean over seeds, {DRAWS:,} draws of videos. p: paired bootstrap over videos against the first row, corrected "
        "for all rows (Holm); the first row was picked on the split that is judged, which flatters it. Against "
        f"linear: the same test of every model trained by gradient against `{yardstick or LINEAR}`; *not better* has a "
        "mean that is no better, *open* a better one that the test does not tell from it.",
        "Parameters: trainable numbers; of a model without gradients, the numbers that it stores. Seconds: training of "
        "one seed, the mean, on a machine that does other things too."
        + (
            f" MiB: the most memory that training {EPOCHS} epochs (or the one fit) held above libraries and corpus, "
            f"each model measured by itself in a new process, threads: {threads}."
            if threads is not None
            else ""
        ),
    )
    text = _said(plan, judge, order, yardstick, deep, [row[7] for row in rows])
    return Section(
        "The models, ranked", text, (Grid(f"{plan.corpus.name}: {metric}", head, tuple(rows), notes, 3),), data
    )


def _said(
    plan: Plan, judge: Judge, order: Sequence[str], yardstick: str | None, deep: Sequence[str], verdicts: Sequence[str]
) -> tuple[str, ...]:
    """Return in words who is first, who would have been chosen, and which deep models lose to a linear one."""
    metric = plan.rank_by
    shown = {name: figure_text([judge.judged[name].mean(metric)], metric) for name in order}
    said = [f"First on {plan.split}: `{order[0]}` ({shown[order[0]]})."]
    chosen = chosen_on_valid(judge, order, metric, plan.lower) if plan.split != Split.VALID else None
    if chosen is not None:
        said.append(f"Best on valid, so the one to choose: `{chosen}` ({shown[chosen]} on {plan.split}).")
    of = dict(zip(order, verdicts, strict=False))
    if yardstick is not None and deep:
        word = "logistic" if "mae" not in metric and "pearson" not in metric else "ridge"
        losing = [name for name in deep if of[name] in (WORSE, NOT_BETTER)]
        listed = ", ".join(
            f"`{name}` ({shown[name]}{', significantly' if of[name] == WORSE else ''})" for name in losing
        )
        simple = f"{word} regression (`{yardstick}`, {shown[yardstick]})"
        if losing:
            said.append(f"Of {len(deep)} models trained by gradient, {len(losing)} lose to {simple}: {listed}.")
        else:
            said.append(f"No model trained by gradient has a worse mean than {simple}.")
        proven = [name for name in deep if of[name] == "better"]
        said.append(
            "Significantly better than it: " + (", ".join(f"`{name}`" for name in proven) if proven else "none") + "."
        )
    if MAJORITY in order and order.index(MAJORITY) < len(order) - 1:
        below = order[order.index(MAJORITY) + 1 :]
        said.append("No better than a constant: " + ", ".join(f"`{name}`" for name in below) + ".")
    return (" ".join(said),)


def _spent(outcome: Outcome) -> tuple[int | None, float | None]:
    """Return the numbers of a cell's model, and the seconds of one seed."""
    if outcome.run is None:
        return None, None
    results = [read_json(outcome.run.seed_folder(seed) / "result.json") for seed in outcome.run.seeds]
    parameters = results[0].get("parameters")
    if parameters is None:
        model = outcome.run.model(outcome.run.seeds[0])
        arrays = getattr(model, "arrays", None)
        parameters = sum(tensor.numel() for tensor in arrays().values()) if arrays else None
    return parameters, sum(result["seconds"] for result in results) / len(results)


def _beside(plan: Plan, judge: Judge) -> Section:
    """Return every main figure beside the published one."""
    order = ranked(judge, plan.rank_by, plan.lower)
    metrics = [
        name for name in judge.judged[order[0]].values if name.rpartition(".")[2] in MAIN and name.count(".") == 1
    ]
    known = {name: reported(plan.cells[name].model, plan.data) if plan.data else [] for name in order}
    published = {(name, m): _published(known[name], m) for name in order for m in metrics}
    shown = [m for m in metrics if any(published[name, m] for name in order)]
    head, rows, data = ["model"], [], []
    for metric in metrics:
        head += [metric, "published"] if metric in shown else [metric]
    sources: dict[str, int] = {}
    for name in order:
        line = [f"`{name}`"]
        for metric in metrics:
            values, paper = judge.judged[name].values.get(metric, ()), published[name, metric]
            line.append(figure_text(values, metric))
            if metric in shown:
                line.append(_published_text(paper, metric, sources))
            data.append(
                {
                    "cell": name,
                    "metric": metric,
                    "here": summary(values),
                    "published": paper.figures[metric] if paper else None,
                    "source": f"{paper.experiment}, table {paper.table}" if paper else None,
                    "doubt": paper.doubts.get(metric) if paper else None,
                }
            )
        rows.append(tuple(line))
    notes = [
        "Shares in per cent, errors and correlations as they are; mean ± standard deviation over seeds. Rows in the "
        "order of the ranking."
    ]
    if sources:
        listed = "; ".join(f"[{number}] {text}" for text, number in sources.items())
        notes.append(
            f"Published: {listed}. They were made on features of their own, in part by choosing on the test split; ? "
            "marks a doubt, which `affectus models NAME` tells."
        )
    elif plan.data is None:
        notes.append("No figure is published for this corpus, as far as the packaged experiments know.")
    title = "All figures, beside the published ones" if sources else "All figures"
    return Section(title, (), (Grid(title, tuple(head), tuple(rows), tuple(notes)),), data)


def _published(known: Sequence[Reported], metric: str) -> Reported | None:
    return next((one for one in known if metric in one.figures), None)


def _published_text(paper: Reported | None, metric: str, sources: dict[str, int]) -> str:
    if paper is None:
        return NOTHING
    scale, digits = scale_of(metric)
    table = f"table {paper.table}" if paper.table.replace(".", "").isdigit() else paper.table
    source = f"`{paper.experiment}`" if paper.own else paper.paper
    number = sources.setdefault(f"{source} ({table})", len(sources) + 1)
    return f"{scale * paper.figures[metric]:.{digits}f}{'?' if metric in paper.doubts else ''} [{number}]"


def _about(plan: Plan, sha: str, judge: Judge, out: Path) -> tuple[str, ...]:
    corpus = plan.corpus
    sizes = ", ".join(
        f"{split} {len(corpus.recordings(split)):,} videos, {len(corpus.rows(split)):,} utterances"
        for split in Split
        if (corpus.splits == split).any()
    )
    widths = ", ".join(f"{name} {corpus.dims[name]}" if name in corpus.dims else name for name in plan.modalities)
    tasks = ", ".join(task.name for task in plan.tasks)
    said = [
        f"Corpus `{sha[:16]}`: {sizes}. Features: {widths}; view {plan.view}. Learned: {tasks}. Judged: {plan.split}, "
        f"protocol `{plan.protocol}`.",
        *plan.notes,
    ]
    if plan.left_out:
        said.append("Left out:")
        said.append("\n".join(f"- `{name}`: {reason}." for name, reason in plan.left_out.items()))
    if judge.failures:
        said.append("Failed:")
        said.append("\n".join(f"- `{name}`: {_reason(text, out)}" for name, text in judge.failures.items()))
    return tuple(said)


def _reason(text: str, out: Path) -> str:
    return text.replace(str(out.resolve()), "OUT").replace(str(out), "OUT")

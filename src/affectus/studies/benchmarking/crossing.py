"""The benchmark across corpora: every model trained on each, judged on all."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from affectus.corpus import Corpus, load_corpus
from affectus.corpus.storage import corpus_hash
from affectus.errors import AffectusError
from affectus.evaluation.significance import holm
from affectus.files import lock_folder
from affectus.objectives import Task, available_tasks
from affectus.parallel import Executor
from affectus.studies.benchmarking.judging import Judge
from affectus.studies.benchmarking.plan import ANY_VIEW, PREFERRED, Changes, Plan, corpus_view, make_plan
from affectus.studies.benchmarking.ranking import (
    check_any,
    figure_text,
    page_facts,
    page_head,
    scale_of,
    study_facts,
)
from affectus.studies.cells import Outcome, StudyReporter, open_study, run_cells
from affectus.studies.claims import p_text
from affectus.studies.tables import NOTHING, Grid, Page, Section, summary
from affectus.training.run import listed_seeds
from affectus.training.seen import marks
from affectus.vocabulary import TEXT, Split, View, order_modalities


@dataclass(frozen=True)
class Common:
    """What several corpora have in common.

    Attributes:
        modalities: whose features mean the same in all.
        tasks: whose labels mean the same in all.
        view: that all allow.
        unfit: what does not fit, one sentence each.
    """

    modalities: tuple[str, ...]
    tasks: tuple[str, ...]
    view: str
    unfit: tuple[str, ...]


def common_ground(
    corpora: Mapping[str, Corpus],
    *,
    tasks: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    view: str | None = None,
    encoded: bool = False,
) -> Common:
    """Work out on what models can be carried from any of the corpora to any other.

    A modality fits if all corpora have it, equally wide and, as far as they say, made by the same extractor. A task
    fits if all have its labels, with the same values in the same range.

    Args:
        corpora: by the names under which they are shown.
        tasks: wanted; None for the main one that fits.
        modalities: wanted; None for all that fit.
        view: wanted; None for one that all allow.
        encoded: a text encoder makes the text of all of them.

    Raises:
        AffectusError: nothing fits, or something that is wanted does not.
    """
    unfit: list[str] = []
    fitting = [
        name
        for name in order_modalities(
            {m for corpus in corpora.values() for m in corpus.modalities} | ({TEXT} if encoded else set())
        )
        if (encoded and name == TEXT) or _same_features(name, corpora, unfit)
    ]
    for wanted in modalities or ():
        if wanted not in fitting:
            reason = next((one for one in unfit if one.startswith(f"The modality {wanted!r}")), "no corpus has it")
            raise AffectusError(f"The modality {wanted!r} cannot be carried across", got=reason.rstrip("."))
    if not fitting:
        raise AffectusError(
            "The corpora have no features in common",
            got=" ".join(unfit).rstrip(".") or "no features",
            remedy="Extract the features of all of them in the same way, or give --text-encoder",
        )
    same = _same_tasks(corpora, unfit)
    for wanted in tasks or ():
        if wanted.partition(":")[0] not in same:
            reason = next((one for one in unfit if one.startswith(f"The task {wanted!r}")), "no corpus has its labels")
            raise AffectusError(f"The task {wanted!r} cannot be carried across", got=reason.rstrip("."))
    if not same:
        raise AffectusError("The corpora have no labels in common", got=" ".join(unfit).rstrip(".") or "no labels")
    main = [next((name for name in PREFERRED if name in same), same[0])]
    read = tuple(modalities) if modalities else tuple(fitting)
    views = {
        corpus_view(corpus, [m for m in read if not (encoded and m == TEXT)], encoded=encoded)
        for corpus in corpora.values()
    }
    if view is None:
        view = str(views.pop()) if len(views) == 1 else str(View.UNALIGNED)
    return Common(read, tuple(tasks or main), view, tuple(unfit))


def _same_features(name: str, corpora: Mapping[str, Corpus], unfit: list[str]) -> bool:
    lacking = [where for where, corpus in corpora.items() if name not in corpus.modalities]
    if lacking:
        unfit.append(f"The modality {name!r} is left out: {' and '.join(lacking)} {_do(lacking)} not have it.")
        return False
    widths = {where: corpus.dims[name] for where, corpus in corpora.items()}
    makers = {where: corpus.card.modalities[name].encoder for where, corpus in corpora.items()}
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{width} in {where}" for where, width in widths.items())
        unfit.append(f"The modality {name!r} is left out: its width is {told}.")
        return False
    said = {maker for maker in makers.values() if maker}
    if len(said) > 1:
        told = ", ".join(f"{maker or 'unknown'} in {where}" for where, maker in makers.items())
        unfit.append(f"The modality {name!r} is left out: its features were made by {told}.")
        return False
    if None in makers.values():
        unfit.append(
            f"The modality {name!r} is equally wide everywhere, but not every corpus says what made it: whether the "
            "columns mean the same is for you to know."
        )
    return True


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _same_tasks(corpora: Mapping[str, Corpus], unfit: list[str]) -> list[str]:
    known = {where: available_tasks(corpus.schemes) for where, corpus in corpora.items()}
    fitting = []
    for name in dict.fromkeys(task for tasks in known.values() for task in tasks):
        lacking = [where for where, tasks in known.items() if name not in tasks]
        if lacking:
            unfit.append(f"The task {name!r} is left out: {' and '.join(lacking)} {_do(lacking)} not have its labels.")
            continue
        of: dict[str, Task] = {where: tasks[name] for where, tasks in known.items()}
        if len({task.values for task in of.values()}) > 1:
            told = "; ".join(f"{where} has {', '.join(task.values)}" for where, task in of.items())
            unfit.append(f"The task {name!r} is left out: its values differ ({told}).")
            continue
        # polarity has no range of its own, but is cut from a sentiment that has
        ranges = {
            where: (corpora[where].schemes[task.scheme].low, corpora[where].schemes[task.scheme].high)
            for where, task in of.items()
        }
        if len(set(ranges.values())) > 1:
            told = ", ".join(
                f"{low:g} to {high:g} in {where}" if low is not None and high is not None else f"unknown in {where}"
                for where, (low, high) in ranges.items()
            )
            unfit.append(f"The task {name!r} is left out: its labels range from {told}.")
            continue
        fitting.append(name)
    return fitting


def cross(
    corpora: Sequence[str | Path],
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
    jobs: int = 1,
    threads: int = 1,
    device: str = "auto",
    command: str = "",
    report: StudyReporter | None = None,
    say: Callable[[str], None] = lambda _: None,
    executor: Executor | None = None,
) -> Page:
    """Train every model on each corpus, and judge it on all of them.

    Args:
        corpora: folders, two or more.
        out: the study's folder, with a folder for each corpus; one that was stopped goes on.
        models: their names; None for all. The simple baselines are always there.
        seeds: the seeds, or how many.
        tasks: what to predict; None for the main one that all corpora have.
        modalities: which to read; None for all that all corpora have.
        view: in which models are trained, or ``any`` for each model's own; None for one that all corpora allow.
        protocol: of the evaluation; None for the field's.
        rank_by: the figure that is shown and tested; None for that of the first task.
        split: which to judge; None for test, or valid where there is no test.
        changes: of settings. Presets for data sets are not taken: what is trained must be the same everywhere.
        jobs: processes at once.
        threads: of torch, for each process.
        device: ``auto``, ``cpu`` or ``cuda``.
        command: as it was given, for the page; without absolute paths.
        report: told of the cells that are trained.
        say: told what is done besides.
        executor: trains the models on other machines.

    Raises:
        AffectusError: fewer than two corpora, they have too little in common, a setting does not fit, the folder holds
            another study or is in use, or no model could be trained on one of them.
    """
    out, changes = Path(out), changes or Changes.none()
    folders = [Path(folder) for folder in corpora]
    if len(folders) < 2:
        raise AffectusError("There is nothing to carry across", got=len(folders), expected="two corpora or more")
    opened = dict(zip(folder_names(folders), map(load_corpus, folders), strict=True))
    listed = listed_seeds(seeds)
    encoded = changes.training.get("text_encoder") is not None
    wanted_view = None if view == ANY_VIEW else view
    common = common_ground(opened, tasks=tasks, modalities=modalities, view=wanted_view, encoded=encoded)
    plans = {
        name: make_plan(
            corpus,
            seeds=listed,
            models=models,
            tasks=common.tasks,
            modalities=common.modalities,
            view=ANY_VIEW if view == ANY_VIEW else common.view,
            protocol=protocol,
            rank_by=rank_by,
            split=split,
            changes=changes,
            presets=False,
        )
        for name, corpus in opened.items()
    }
    hashes = {name: corpus_hash(folder) for name, folder in zip(opened, folders, strict=True)}
    outcomes: dict[str, dict[str, Outcome]] = {}
    for (name, plan), folder in zip(plans.items(), folders, strict=True):
        mine = out / name
        with lock_folder(mine):
            open_study(mine, study_facts("cross", hashes[name], plan, changes.training))
            outcomes[name] = run_cells(
                list(plan.cells.values()),
                folder,
                mine,
                jobs=jobs,
                threads=threads,
                device=device,
                report=report,
                executor=executor,
            )
            check_any(outcomes[name], mine)
    judges = {
        (trained, judged): Judge(outcomes[trained], plan.corpus, plan.split, plan.protocol, say)
        for trained in plans
        for judged, plan in plans.items()
    }
    sections = _sections(plans, judges)
    first = next(iter(plans.values()))
    names = " and ".join(f"`{name}`" for name in plans)
    about = [
        f"Corpora: {names}. Features: {', '.join(common.modalities)}; view {first.view}. Learned: "
        f"{', '.join(common.tasks)}. Judged: "
        + ", ".join(
            f"{plan.split} of `{name}` ({len(plan.corpus.rows(plan.split)):,} utterances)"
            for name, plan in plans.items()
        )
        + f", protocol `{first.protocol}`. Scaling and thresholds are those of the corpus that trained.",
        *common.unfit,
        *dict.fromkeys(f"`{name}`: {note}" for name, plan in plans.items() for note in plan.notes),
        *_shared(plans),
    ]
    left = {name: why for plan in plans.values() for name, why in plan.left_out.items()}
    if left:
        about += ["Left out:", "\n".join(f"- `{name}`: {reason}." for name, reason in left.items())]
    failures = {
        f"`{cell}`, trained on `{trained}`, judged on `{judged}`": text.replace(str(out.resolve()), "OUT").replace(
            str(out), "OUT"
        )
        for (trained, judged), judge in judges.items()
        for cell, text in judge.failures.items()
    }
    if failures:
        about += ["Failed:", "\n".join(f"- {which}: {text}" for which, text in failures.items())]
    return Page(
        "Across corpora",
        page_head(listed, command, changes),
        ((", ".join(plan.corpus.name for plan in plans.values()), tuple(about), sections),),
        page_facts("cross", listed, command, changes, hashes),
    )


def _shared(plans: Mapping[str, Plan]) -> list[str]:
    """Say where models are judged on what they have seen in another corpus."""
    seen, asked = {}, {}
    for name, plan in plans.items():
        learned = np.flatnonzero(np.isin(plan.corpus.splits, [Split.TRAIN, Split.VALID]))
        seen[name] = marks(plan.corpus, learned)
        asked[name] = marks(plan.corpus, plan.corpus.rows(plan.split))
    said = []
    for trained, judged in permutations(plans, 2):
        if count := int(np.isin(asked[judged], seen[trained]).sum()):
            said.append(
                f"{count:,} of the {len(asked[judged]):,} utterances of `{judged}` that are judged are in train or "
                f"valid of `{trained}`: figures of models trained there are better than on new data."
            )
    return said


def folder_names(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each corpus's folder of runs; a number tells namesakes apart."""
    names: list[str] = []
    for folder in folders:
        plain = "".join(c if c.isalnum() else "-" for c in folder.resolve().name.lower()).strip("-") or "corpus"
        names.append(plain if plain not in names else f"{plain}-{len(names) + 1}")
    return names


def _sections(plans: Mapping[str, Plan], judges: Mapping[tuple[str, str], Judge]) -> tuple[Section, ...]:
    names = list(plans)
    first = plans[names[0]]
    metric, lower = first.rank_by, first.lower
    cells = list(dict.fromkeys(cell for plan in plans.values() for cell in plan.cells))
    rows, data = [], []
    for cell in cells:
        for trained in names:
            line = [f"`{cell}`", trained]
            for judged in names:
                found = judges[trained, judged].judged.get(cell)
                values = found.values.get(metric, ()) if found else ()
                line.append(figure_text(values, metric) if found else "failed")
                data.append(
                    {"cell": cell, "trained": trained, "judged": judged, "metric": metric, "here": summary(values)}
                )
            rows.append(tuple(line))
    head = ("model", "trained on", *(f"judged on {name}" for name in names))
    notes = (
        f"{metric}, {'less' if lower else 'more'} is better; mean ± standard deviation over seeds. `majority` is the "
        "constant of the corpus that trained.",
    )
    matrix = Section(
        "Trained on each, judged on all",
        (),
        (Grid(f"{metric}: rows train, columns judge", head, tuple(rows), notes, 2),),
        data,
    )
    return matrix, _losses(plans, judges, cells, metric, lower)


def _losses(
    plans: Mapping[str, Plan],
    judges: Mapping[tuple[str, str], Judge],
    cells: Sequence[str],
    metric: str,
    lower: bool,
) -> Section:
    """Return what it costs to come from another corpus, tested."""
    from affectus.evaluation.significance import compare_statistics

    found = []
    for judged, plan in plans.items():
        for trained in plans:
            if trained == judged:
                continue
            for cell in cells:
                home, away = (judges[where, judged].judged.get(cell) for where in (judged, trained))
                if home is None or away is None:
                    continue
                try:
                    (difference,) = compare_statistics(
                        [judged, trained],
                        [home.statistics, away.statistics],
                        judges[judged, judged].videos(),
                        # another corpus's seed 0 has nothing to do with this one's
                        paired=[True, False],
                        where=f"{plan.corpus.name}, split {plan.split}",
                        metrics=[metric],
                    )
                except AffectusError:
                    continue
                found.append((cell, trained, judged, difference))
    corrected = holm([difference.p_videos for *_, difference in found])
    scale, digits = scale_of(metric)
    rows, data = [], []
    for (cell, trained, judged, difference), p in zip(found, corrected, strict=True):
        low, high = difference.interval
        worse = difference.difference > 0 if lower else difference.difference < 0
        verdict = "open" if not p < 0.05 or math.isnan(p) else ("worse" if worse else "better")
        rows.append(
            (
                *(f"`{cell}`", trained, judged),
                NOTHING if math.isnan(low) else f"{scale * difference.difference:+.{digits}f}",
                NOTHING if math.isnan(low) else f"[{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]",
                p_text(p),
                verdict,
            )
        )
        data.append({**difference.to_json(), "cell": cell, "trained": trained, "judged": judged, "p_holm": p})
    head = ("model", "trained on", "judged on", "against its own", "95 %", "p (Holm)", "verdict")
    title = "What it costs to come from another corpus"
    notes = (
        f"{metric} of the model trained elsewhere, less that of the same model trained on the corpus that judges. "
        "Paired bootstrap over videos; p corrected for all rows.",
    )
    if not rows:
        text = ("Nothing could be compared: the judged splits have one video each, or every pair failed.",)
        return Section(title, text, (), data)
    return Section(title, (), (Grid(title, head, tuple(rows), notes, 3),), data)

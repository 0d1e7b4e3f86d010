"""The Python face of the command line's verbs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from affectus.corpus import Corpus, load_corpus
from affectus.corpus.storage import corpus_hash, identity
from affectus.errors import AffectusError, unknown_name
from affectus.evaluation import Evaluation, Scorer, evaluate_run
from affectus.features.tokens import Progress
from affectus.training import Run, build_config, load_run, train_run
from affectus.training.devices import train_on_devices
from affectus.training.run import Reporter
from affectus.training.transfer import InitScaling
from affectus.vocabulary import View


def train(
    model: str,
    corpus: Corpus | str | Path,
    *,
    tasks: Sequence[str],
    out: str | Path,
    modalities: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 1,
    preset: str | None = None,
    view: View | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    jobs: int = 1,
    threads: int = 1,
    device: str = "auto",
    report: Reporter | None = None,
    encoding: Progress | None = None,
    init_from: Run | str | Path | None = None,
    init_scaling: str = "source",
    unlabelled: Corpus | str | Path | None = None,
    tell: Callable[[str], None] | None = None,
    stacked: bool = False,
    devices: int = 1,
) -> Run:
    """Train a model and return its run; a folder that holds the same run, unfinished, is resumed.

    Args:
        model: a registered model (``affectus models``).
        corpus: in memory, or its folder.
        tasks: what to predict, each perhaps with the weight of its loss (``emotions:0.5``).
        out: the run folder.
        modalities: which to use; None for all.
        seeds: the seeds, or how many.
        preset: a named set of options of the model.
        view: None for the model's own.
        options: of the model.
        training: settings, see :class:`affectus.training.TrainingSettings`.
        jobs: seeds trained at once, in processes; needs a corpus folder.
        threads: of torch, for each process.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: told of each epoch.
        encoding: told how many texts the frozen layers of a text encoder have read, and how many there are.
        init_from: a run whose weights, where name and shape are the same, this one starts from.
        init_scaling: ``source`` scales the features that both have as the source does, ``own`` by their own statistics.
        unlabelled: a corpus that is learned from without its labels, by the setting ``unlabelled_method``.
        tell: told in lines what was taken from ``init_from``.
        stacked: train the seeds as one model, where the model allows it: the same results, sooner.
        devices: GPUs, or processes on a CPU, that train each seed together, each its part of a batch; needs a corpus
            folder.

    Raises:
        AffectusError: anything that does not fit, in one sentence.
    """
    if init_scaling not in list(InitScaling):
        raise unknown_name("scaling to start with", init_scaling, list(InitScaling))
    source = None
    if init_from is not None:
        opened_run = init_from if isinstance(init_from, Run) else load_run(init_from)
        source = opened_run.as_source(InitScaling(init_scaling))
    unread = load_corpus(unlabelled) if isinstance(unlabelled, str | Path) else unlabelled
    folder = None if isinstance(corpus, Corpus) else Path(corpus)
    opened = corpus if isinstance(corpus, Corpus) else load_corpus(corpus)
    config = build_config(
        model,
        opened,
        tasks=tasks,
        modalities=modalities,
        seeds=seeds,
        preset=preset,
        view=view,
        options=options,
        training=training,
    )
    if devices > 1:
        if folder is None or jobs > 1 or stacked or unread is not None:
            raise AffectusError(
                "Several devices train one seed after another, on a corpus that has a folder, from its labels",
                got=f"{devices} devices and "
                + ("a corpus in memory" if folder is None else "jobs, stacked seeds or a corpus without labels"),
                remedy="Leave the one or the other out",
            )
        train_on_devices(
            config, folder, out, devices, identity=corpus_hash(folder), scorer=Scorer(), report=report, tell=tell,
            threads=threads, device=device, source=source,
        )  # fmt: skip
        return load_run(out)
    train_run(
        config,
        opened,
        out,
        identity=identity(opened),
        scorer=Scorer(),
        report=report,
        jobs=jobs,
        threads=threads,
        corpus_folder=folder,
        encoding=encoding,
        device=device,
        source=source,
        unlabelled=unread,
        unlabelled_identity=None if unread is None else identity(unread),
        tell=tell,
        stacked=stacked,
    )
    return load_run(out)


def evaluate(
    run: Run | str | Path,
    corpus: Corpus | str | Path,
    *,
    split: str = "test",
    protocol: str = "akhtar2019",
    per_class_thresholds: bool = False,
    ensemble: bool = False,
) -> Evaluation:
    """Judge a run on a split of a corpus; see :func:`affectus.evaluation.evaluate_run`."""
    opened = corpus if isinstance(corpus, Corpus) else load_corpus(corpus)
    return evaluate_run(
        run,
        opened,
        split=split,
        protocol=protocol,
        per_class_thresholds=per_class_thresholds,
        ensemble=ensemble,
    )

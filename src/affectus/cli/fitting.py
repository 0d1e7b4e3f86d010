"""Verbs about models: train, evaluate, predict, protocols, metrics."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from affectus.cli.clustering import ClusterOption, check_format, open_cluster, open_executor
from affectus.cli.console import open_runs, output
from affectus.errors import AffectusError
from affectus.files import json_text, write_json

if TYPE_CHECKING:
    from affectus.evaluation import Evaluation
    from affectus.training import Run, SeedEvent

HEADLINE = (
    "polarity.accuracy",
    "polarity.weighted_f1",
    "intensity.mae",
    "intensity.pearson",
    "intensity.acc2_negative_nonnegative",
    "intensity.acc2_negative_positive",
    "intensity.acc7",
    "emotions.weighted_f1",
    "emotions.weighted_accuracy",
    "emotions7.weighted_f1",
    "emotions7.weighted_accuracy",
    "emotion_intensity.mae",
    "emotion_class.accuracy",
    "emotion_class.weighted_f1",
    "ratings.mae",
    "ratings.pearson",
)
"""What a first look needs; ``--all`` shows the rest."""


def parse_names(text: str | None) -> list[str] | None:
    """Return the names of a list by commas; None for none."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


class SeedProgress:
    """A bar over epochs and one line per epoch; lines alone where nobody watches."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.tasks: dict[tuple[int, str], Any] = {}

    def encoding(self, done: int, total: int) -> None:
        """Show how many texts the frozen layers of a text encoder have read."""
        key = (-1, "text")
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task("texts through the frozen encoder", total=total)
        self.bar.update(self.tasks[key], completed=done)
        if done == total and not self.quiet:
            self.console.print(f"{total} texts went through the frozen encoder, once for all epochs", soft_wrap=True)

    def __call__(self, event: "SeedEvent") -> None:
        """Show an epoch."""
        key = (event.seed, event.stage)
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task(f"seed {event.seed} {event.stage}", total=event.epochs)
        self.bar.update(self.tasks[key], completed=event.epoch + 1)
        if not self.quiet:
            wanted = ("train.loss", "valid.loss", *(f"valid.{name}" for name in HEADLINE))
            shown = "  ".join(f"{name} {event.figures[name]:.4f}" for name in wanted if name in event.figures)
            self.console.print(f"seed {event.seed}  {event.stage}  epoch {event.epoch + 1:3d}  {shown}", soft_wrap=True)


def train(
    model: Annotated[str | None, typer.Argument(help="A model; `affectus models` lists them.")] = None,
    corpus: Annotated[Path | None, typer.Argument(help="A corpus folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run folder; an unfinished run in it goes on.")] = None,
    tasks: Annotated[
        str | None, typer.Option(help="What to predict, by commas; name:weight weighs its loss.", show_default=False)
    ] = None,
    modalities: Annotated[str | None, typer.Option(help="Which to use, by commas; default: all.")] = None,
    seeds: Annotated[str | None, typer.Option(help="How many seeds, or which: 5, or 3,7. Default: 1.")] = None,
    preset: Annotated[str | None, typer.Option(help="A named set of options of the model.")] = None,
    view: Annotated[
        str | None, typer.Option(help="contextual, unaligned or aligned; default: the model's own.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with any of these settings, or the name of a packaged experiment.")
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            "--text-encoder",
            help="Make the text from transcripts: minilm, a local folder, or a name on the Hugging Face hub.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the model or a training setting; repeatable."),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option("--init-from", help="A run whose weights, where name and shape are the same, are the start."),
    ] = None,
    init_scaling: Annotated[
        str, typer.Option(help="Scale the features that both have as that run does (source), or anew (own).")
    ] = "source",
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="A corpus to learn from without its labels; unlabelled_method says how."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds trained side by side, in so many processes.")] = 1,
    stacked: Annotated[
        bool, typer.Option("--stacked", help="Train the seeds as one model, where the model allows it.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs of this machine that train each seed together, each its part of a batch.")
    ] = 1,
    cluster: ClusterOption = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Workers of the cluster that train each seed together, each its part of a batch.")
    ] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no line per epoch.")] = False,
) -> None:
    """Train a model on a corpus, once per seed; the best epoch is chosen on valid.

    Examples:

      affectus train mtmm_es CORPUS --tasks polarity,emotions --seeds 5 --out RUN

      affectus train mmmu_ba CORPUS --tasks polarity --modalities text,audio --set learning_rate=0.0005 --out RUN

      affectus train linear CORPUS --tasks intensity --set neighbours=2 --out RUN

      affectus train mtmm_es CORPUS --tasks polarity --text-encoder minilm --set text_layers=2 --out RUN

      affectus train CORPUS --config akhtar2019_mtmm_es_mosei --out RUN

      affectus train mtmm_es CORPUS --tasks intensity --init-from OTHER_RUN --out RUN

      affectus train mtmm_es CORPUS --tasks intensity --unlabelled OTHER_CORPUS --out RUN

      affectus train mtmm_es CORPUS --tasks polarity --device cuda --devices 4 --out RUN

      affectus train mtmm_es CORPUS --tasks polarity --cluster 10.0.0.7:6379 --workers 4 --out RUN
    """
    from affectus.api import train as train_model
    from affectus.models import MODELS
    from affectus.studies.published import experiment_path
    from affectus.training.config import parse_assignments, read_config_file
    from affectus.vocabulary import canonical_modality, canonical_view, check_device

    file = read_config_file(experiment_path(config)) if config else {}
    if model is not None and corpus is None and "model" in file:
        # the file names the model, so the one argument is the corpus
        model, corpus = str(file["model"]), Path(model)
    model = model or file.get("model")
    wanted = parse_names(tasks) or file.get("tasks")
    for what, value, how in (
        ("model", model, "affectus models lists them"),
        ("corpus", corpus, "give its folder after the model"),
        ("--tasks", wanted, "for instance --tasks polarity,emotions"),
        ("--out", out, "give the run folder"),
    ):
        if not value:
            raise AffectusError(f"No {what} is given", remedy=how[0].upper() + how[1:])
    assert model is not None
    assert corpus is not None
    assert out is not None
    assert wanted is not None
    options, training = parse_assignments(set_ or [], MODELS[model])
    if text_encoder is not None:
        training["text_encoder"] = text_encoder
    check_device(device)
    chosen = parse_names(modalities) or file.get("modalities")
    named_view = view or file.get("view")
    common: dict[str, Any] = {
        "tasks": wanted,
        "out": out,
        "modalities": [canonical_modality(name) for name in chosen] if chosen else None,
        "seeds": parse_seeds(seeds) if seeds is not None else file.get("seeds", 1),
        "preset": preset or file.get("preset"),
        "view": canonical_view(named_view) if named_view else None,
        "options": {**file.get("options", {}), **options},
        "training": {**file.get("training", {}), **training},
    }
    if workers > 1 and cluster is None:
        raise AffectusError("Workers are those of a cluster", got=f"--workers {workers}", remedy="Add --cluster=local")
    machines = open_cluster(cluster, workers, threads)
    if machines is not None:
        if init_from is not None or unlabelled is not None:
            raise AffectusError("On a cluster a run starts from chance and learns from labels alone")
        if devices > 1:
            raise AffectusError("On a cluster a worker has one device", remedy="Give --workers in place of --devices")
        if stacked:
            raise AffectusError("On a cluster seeds are trained one after another", remedy="Leave --stacked out")
        from affectus.cluster.training import train_together

        run = train_together(machines, model, corpus, workers=workers, device=device, **common)
        _print_trained(run, corpus, out, quiet)
        return
    progress = SeedProgress(quiet)
    with progress.bar:
        run = train_model(
            model,
            corpus,
            **common,
            jobs=jobs,
            stacked=stacked,
            devices=devices,
            threads=threads,
            device=device,
            report=progress,
            encoding=progress.encoding,
            init_from=init_from,
            init_scaling=init_scaling,
            unlabelled=unlabelled,
            tell=None if quiet else lambda line: progress.console.print(line, soft_wrap=True),
        )
    _print_trained(run, corpus, out, quiet)


def _print_trained(run: "Run", corpus: Path, out: Path, quiet: bool) -> None:
    typer.echo(f"Trained {run.config.model}, seeds {', '.join(map(str, run.seeds))}: {out}")
    if not quiet:
        from affectus.corpus import load_corpus
        from affectus.vocabulary import Split

        splits = set(load_corpus(corpus).splits.tolist())
        for split in (Split.TEST, Split.VALID):
            if split in splits:
                typer.echo(f"Judge it with: affectus evaluate {out} {corpus} --split {split}")
                break


def parse_seeds(text: str) -> int | list[int]:
    """Return a number of seeds, or the seeds.

    Raises:
        AffectusError: the text is neither.
    """
    try:
        parts = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        parts = []
    if not parts:
        raise AffectusError("The seeds are not right", got=repr(text), expected="a number, or several by commas")
    return parts[0] if len(parts) == 1 and "," not in text else parts


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    corpus: Annotated[Path, typer.Argument(help="A corpus folder.")],
    split: Annotated[str, typer.Option(help="Which split to judge on.")] = "test",
    protocol: Annotated[str, typer.Option(help="By which rules; `affectus protocols` explains them.")] = "akhtar2019",
    per_class_thresholds: Annotated[
        bool, typer.Option("--per-class-thresholds", help="A threshold for each emotion instead of one for all.")
    ] = False,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Judge the mean of the seeds as one model.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Show every metric.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON; - prints them.")] = None,
) -> None:
    """Judge a run: mean, spread and the majority baseline, by a protocol's rules.

    Examples:

      affectus evaluate RUN CORPUS --split test

      affectus evaluate RUN CORPUS --split valid --protocol akhtar2019-released --json figures.json
    """
    from affectus.corpus import load_corpus
    from affectus.evaluation import evaluate_run
    from affectus.vocabulary import canonical_split

    opened = open_runs([run])[0]
    found = evaluate_run(
        opened,
        load_corpus(corpus),
        split=canonical_split(split),
        protocol=protocol,
        per_class_thresholds=per_class_thresholds,
        ensemble=ensemble,
    )
    if json_file is not None and str(json_file) == "-":
        typer.echo(json_text(found.to_json()))
        return
    if json_file is not None:
        write_json(json_file, found.to_json())
    _print_evaluation(found, show_all, told=opened.unfinished)


def _print_evaluation(found: "Evaluation", show_all: bool, told: str | None) -> None:
    seeds = ", ".join(map(str, found.seeds)) + (", averaged" if found.ensemble else "")
    counts, judged = set(found.labelled.values()), f"{found.n} utterances"
    if len(counts) == 1 and counts != {found.n}:
        judged += f", {counts.pop()} labelled"
    elif len(counts) > 1:
        judged += "; labelled: " + ", ".join(f"{task} {count}" for task, count in found.labelled.items())
    what = f"{found.model} on {found.corpus}, {found.split} ({judged}), protocol {found.protocol.name}"
    title = f"Ensemble of {what}" if found.ensemble else what
    table = Table(title=title, title_justify="left", caption=f"Seeds {seeds}", caption_justify="left")
    table.add_column("metric")
    for heading in ("mean", "std", "majority"):
        table.add_column(heading, justify="right")
    shown = [name for name in found.values if show_all or name in HEADLINE]
    for name in shown or found.values:
        std = found.std(name)
        spread = "–" if math.isnan(std) else f"{std:.4f}"
        row = (f"{found.mean(name):.4f}", spread, f"{found.majority.get(name, float('nan')):.4f}")
        table.add_row(name, *row)
    console = output()
    console.print(table)
    for note in (note for note in found.notes if note != told):
        console.print(note, style="yellow", highlight=False)
    if len(shown) < len(found.values) and not show_all:
        console.print(f"{len(found.values) - len(shown)} more figures with --all", style="dim", highlight=False)


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    corpus: Annotated[Path, typer.Argument(help="A corpus folder, labelled or not.")],
    out: Annotated[Path, typer.Option("--out", help="A .parquet, .csv or .jsonl file, or the folder of the parts.")],
    split: Annotated[str | None, typer.Option(help="Which split; default: all utterances.")] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Add the attention weights over the video's utterances; not to a .csv.")
    ] = False,
    format: Annotated[
        str | None,
        typer.Option("--format", help="file, or parquet: a folder of part-00000.parquet ... Default on a cluster."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Workers at most on a cluster; 1: as many as it has room for.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process, with --format parquet.")] = 1,
    cluster: ClusterOption = None,
) -> None:
    """Predict every utterance of a corpus with the mean over a run's seeds.

    Examples:

      affectus predict RUN CORPUS --out predictions.parquet

      affectus predict RUN CORPUS --split test --attention --out predictions.jsonl

      affectus predict RUN CORPUS --out PARTS --cluster 10.0.0.7:6379
    """
    from affectus.corpus import load_corpus
    from affectus.predict import predict_table, write_predictions
    from affectus.predict.table import check_output
    from affectus.vocabulary import canonical_split

    chosen = canonical_split(split) if split else None
    in_parts = check_format(format or ("parquet" if cluster is not None else "file"), "file")
    if cluster is not None and not in_parts:
        raise AffectusError("A cluster writes parts, not one file", got="--format file", remedy="Leave it out")
    check_output(out, attention=attention, parts=in_parts)
    if in_parts:
        from affectus.predict.parts import predict_parts

        executor = open_executor(cluster, out, jobs=jobs, threads=threads)
        open_runs([run])
        rows, parts = predict_parts(
            run, corpus, out, split=chosen, attention=attention, threads=threads, executor=executor
        )
        typer.echo(f"Wrote {rows} utterances in {parts} parts to {out}")
        return
    opened = open_runs([run])[0]
    table = predict_table(opened, load_corpus(corpus), split=chosen, attention=attention)
    write_predictions(table, out)
    typer.echo(f"Wrote {len(table)} utterances to {out}")


def protocols() -> None:
    """Explain the protocols by which `affectus evaluate` judges.

    Example: affectus protocols
    """
    from affectus.evaluation import PROTOCOLS

    table = Table()
    for heading in ("name", "chooses on", "rules"):
        table.add_column(heading)
    for name in PROTOCOLS:
        protocol = PROTOCOLS[name]
        table.add_row(name, "the evaluated split (oracle)" if protocol.oracle else "valid", protocol.summary)
    output().print(table)


def metrics(
    name: Annotated[str | None, typer.Argument(help="A metric to explain; default: list all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; null in a range: no bound.")] = False,
) -> None:
    """Explain the metrics: the rule of each, its range, its direction and where it comes from.

    Examples:

      affectus metrics

      affectus metrics acc7
    """
    from affectus.metrics import METRICS

    chosen = [METRICS[name]] if name else [METRICS[known] for known in METRICS]
    if as_json:
        keys = ("name", "kind", "range", "direction", "rule", "empty_class", "citation")
        typer.echo(json_text([{key: getattr(info, key) for key in keys} for info in chosen]))
        return
    table = Table(show_lines=True)
    for heading in ("name", "judges", "range", "better", "rule", "without a class", "source"):
        table.add_column(heading)
    for info in chosen:
        low, high = info.range
        table.add_row(
            info.name, info.kind, f"{low:g} to {high:g}", info.direction, info.rule, info.empty_class, info.citation
        )
    output().print(table)


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (train, evaluate, predict, protocols, metrics):
        app.command()(verb)

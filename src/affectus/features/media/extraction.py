"""Many files -> one corpus: side by side, resumable; a file that cannot be read is told and passed over."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from affectus.corpus import Card, Corpus, Ragged
from affectus.corpus.align import align_corpus
from affectus.corpus.corpus import build_corpus
from affectus.errors import AffectusError
from affectus.features.media.cache import cache_folder, cache_key, cached
from affectus.features.media.recording import Extractor
from affectus.features.media.settings import Extraction
from affectus.features.media.sources import Plan, plan_sources
from affectus.features.media.workers import STALL_SECONDS, Event, Task, read_task, run_tasks
from affectus.files import explain_os_error, scratch_folder, sweep
from affectus.vocabulary import KNOWN_MODALITIES


@dataclass(frozen=True)
class Progress:
    """How far an extraction is.

    Attributes:
        path: the file that it is about.
        what: what is being done with it.
        share: of all files' bytes, 0 to 1; those that were extracted before do not count.
        done: files that are finished.
        total: files that are to be read.
        error: why a file was passed over.
    """

    path: Path
    what: str
    share: float
    done: int
    total: int
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Extracted:
    """The result of an extraction.

    Attributes:
        corpus: of all files that could be read.
        skipped: the others, and why.
        cached: how many files had been extracted before.
    """

    corpus: Corpus
    skipped: dict[Path, str]
    cached: int


def extract(
    source: str | Path,
    settings: Extraction | None = None,
    *,
    manifest: str | Path | None = None,
    transcript: str | Path | None = None,
    turns: str | Path | None = None,
    jobs: int = 1,
    threads: int = 1,
    cache: str | Path | None = None,
    use_cache: bool = True,
    stall: float = STALL_SECONDS,
    name: str | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Extracted:
    """Make a corpus of media files or transcripts.

    Args:
        source: a media file, subtitles, a text, a folder of such, or a manifest (``.csv``).
        settings: what is extracted.
        manifest: a CSV that gives the utterances of media files, their texts and labels.
        transcript: subtitles or a text of the one media file.
        turns: an RTTM file that says who speaks when in the one media file.
        jobs: processes that read files at once; 0 reads them in this process, without guard against files that bring a
            decoder down.
        threads: of each model in each process.
        cache: folder of what was extracted before; None for the user's.
        use_cache: take and keep what is extracted there.
        stall: seconds without progress after which a file is given up.
        name: of the corpus; None for that of the source.
        report: told how far it is.

    Raises:
        AffectusError: nothing can be read, or an option is wrong. One file of several that cannot be read is no error.
    """
    settings = settings or Extraction()
    plan = plan_sources(source, manifest=manifest, transcript=transcript, turns=turns)
    with _folder(Path(cache) if cache is not None else cache_folder(), use_cache) as folder:
        parts, skipped, hits = _read(plan, settings, folder, jobs, threads, stall, report)
        if not parts:
            path, reason = next(iter(skipped.items()))
            if len(skipped) == 1:
                raise AffectusError(reason.rstrip("."))
            raise AffectusError(
                f"None of the {len(skipped)} files could be read", where=source, got=f"{path.name}: {reason}"
            )
        chosen = name or Path(manifest or source).resolve().stem
        corpus = _join(parts, plan, skipped, settings, chosen)
        if not use_cache:
            # the parts are about to go, and with them the memory maps
            corpus = Corpus(corpus.table, {m: _copied(r) for m, r in corpus.features.items()}, corpus.card)
    return Extracted(corpus, skipped, hits)


@contextlib.contextmanager
def _folder(cache: Path, use_cache: bool) -> Iterator[Path]:
    if use_cache:
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, cache) from None
        sweep(cache)
        yield cache
        return
    with scratch_folder() as temporary:
        yield temporary


def _copied(ragged: Ragged) -> Ragged:
    return Ragged(
        np.array(ragged.values), ragged.offsets, ragged.times if ragged.times is None else np.array(ragged.times)
    )


def _read(
    plan: Plan, settings: Extraction, folder: Path, jobs: int, threads: int, stall: float,
    report: Callable[[Progress], None] | None,
) -> tuple[dict[int, Corpus], dict[Path, str], int]:  # fmt: skip
    """Return the corpus of each file that could be read, the others with their reason, and how many were cached."""
    parts: dict[int, Corpus] = {}
    skipped: dict[Path, str] = {}
    tasks: list[Task] = []
    numbers: list[int] = []
    for number, source in enumerate(plan.sources):
        try:
            place = folder / cache_key(source, settings)[:32]
        except AffectusError as error:
            skipped[source.path] = str(error)
            continue
        before = cached(place)
        if before is not None:
            parts[number] = before
        else:
            tasks.append(Task(source, place))
            numbers.append(number)
    hits = len(parts)
    sizes = [max(task.source.path.stat().st_size, 1) for task in tasks]
    shares, done = [0.0] * len(tasks), 0

    def handle(event: Event) -> None:
        nonlocal done
        task = tasks[event.number]
        finished = event.done or event.error is not None
        shares[event.number] = 1.0 if finished else event.share
        done += finished
        if event.done:
            found = cached(task.folder)
            if found is not None:
                parts[numbers[event.number]] = found
        elif event.error is not None:
            skipped[task.source.path] = event.error
        if report is not None:
            share = float(np.dot(shares, sizes) / sum(sizes))
            report(Progress(task.source.path, event.what, share, done, len(tasks), event.error))

    if jobs:
        for event in run_tasks(tasks, settings, jobs=jobs, threads=threads, stall=stall):
            handle(event)
    else:
        extractor = Extractor(settings, threads=threads)
        for number, task in enumerate(tasks):
            handle(read_task(extractor, number, task, handle))
    return parts, skipped, hits


def _join(parts: dict[int, Corpus], plan: Plan, skipped: dict[Path, str], settings: Extraction, name: str) -> Corpus:
    """Put the corpora of files one after another, and the labels of a manifest to them."""
    corpora = [parts[number] for number in sorted(parts)]
    tables = [corpus.table for corpus in corpora]
    features, cards = {}, {}
    for modality in KNOWN_MODALITIES:
        having = [corpus for corpus in corpora if modality in corpus.features]
        if having:
            cards[modality] = having[0].card.modalities[modality]
            sequences = [corpus.features.get(modality) for corpus in corpora]
            features[modality] = _joined(sequences, [len(corpus) for corpus in corpora], cards[modality].dim)
    notes = [f"{corpus.name}: {note}" for corpus in corpora for note in corpus.card.notes]
    notes += [f"{path.name} was passed over: {reason}" for path, reason in skipped.items()]
    table = pl.concat(tables, how="vertical_relaxed")
    card = Card(name=name, source=name, language=settings.language, modalities=cards, notes=notes)
    if plan.manifest is not None:
        card.schemes, card.source = plan.manifest.card.schemes, plan.manifest.card.source
        table = _labelled(table, plan.manifest)
    else:
        card.notes.append("The source names no split; all utterances are in train.")
    corpus = build_corpus(table, features, card)
    return align_corpus(corpus) if settings.aligned else corpus


def _joined(parts: Sequence[Ragged | None], lengths: Sequence[int], dim: int) -> Ragged:
    """Put the sequences of files one after another; a file without the modality has none in any utterance.

    Args:
        parts: of each file, None where it lacks the modality.
        lengths: utterances of each file.
        dim: of the modality.
    """
    here = [part for part in parts if part is not None]
    values = np.concatenate([np.zeros((0, dim), np.float32), *(part.values for part in here)])
    steps = [np.zeros(n, np.int64) if part is None else part.lengths for part, n in zip(parts, lengths, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(steps))]).astype(np.int64)
    times = [part.times for part in here if part.times is not None]
    # one file whose words have no times, as a text has none, leaves the others without, too
    whole = len(times) == len([part for part in here if len(part.values)])
    return Ragged(values, offsets, np.concatenate(times) if whole and times else None)


def _labelled(table: pl.DataFrame, manifest: Corpus) -> pl.DataFrame:
    """Put what a manifest says of each utterance beside what was extracted."""
    own = [column for column in manifest.table.columns if column not in table.columns]
    rows = manifest.table.select("id", pl.col("split").alias("_split"), *own)
    found = table.join(rows, on="id", how="left", maintain_order="left")
    return found.with_columns(pl.col("_split").alias("split")).drop("_split")

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
from affectus.corpus.parts import Part, open_parts, part_key, part_path, utterance_table, write_parts
from affectus.corpus.storage import load_corpus
from affectus.errors import AffectusError, WriteError
from affectus.features.media.cache import cache_folder, cache_key, cached
from affectus.features.media.recording import Extractor
from affectus.features.media.settings import Extraction
from affectus.features.media.sources import Plan, plan_sources
from affectus.features.media.workers import STALL_SECONDS, Event, ReadFiles, Task, read_task, run_tasks
from affectus.files import explain_os_error, scratch_folder, sweep
from affectus.parallel import Alive, Executor
from affectus.vocabulary import KNOWN_MODALITIES

PART_FILES, PART_BYTES = 64, 1 << 28
"""A part of a partitioned table holds the utterances of at most so many files, and of so many bytes of them."""


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


@dataclass(frozen=True)
class Written:
    """The result of an extraction into partitioned Parquet.

    Attributes:
        out: the folder of the parts.
        parts: how many.
        utterances: in all of them.
        recordings: that were read.
        skipped: files that could not be read, and why.
        cached: how many files had been extracted before.
    """

    out: Path
    parts: int
    utterances: int
    recordings: int
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
    executor: Executor | None = None,
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
        executor: reads the files, in place of processes of this machine; its machines must see the cache.

    Raises:
        AffectusError: nothing can be read or written, or an option is wrong. One file of several that cannot be read is
            no error.
    """
    settings = settings or Extraction()
    plan = plan_sources(source, manifest=manifest, transcript=transcript, turns=turns)
    with _folder(Path(cache) if cache is not None else cache_folder(), use_cache) as folder:
        places, skipped, hits = _read(plan, settings, folder, jobs, threads, stall, report, executor)
        _check_any(places, skipped, source)
        chosen = name or Path(manifest or source).resolve().stem
        corpus = _join([load_corpus(place) for place in places.values()], plan, skipped, settings, chosen)
        if not use_cache:
            # the parts are about to go, and with them the memory maps
            corpus = Corpus(corpus.table, {m: _copied(r) for m, r in corpus.features.items()}, corpus.card)
    return Extracted(corpus, skipped, hits)


def extract_parts(
    source: str | Path,
    out: str | Path,
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
    report: Callable[[Progress], None] | None = None,
    executor: Executor | None = None,
) -> Written:
    """Write what is extracted as partitioned Parquet, one row per utterance; never all of it is in memory.

    Which files a part holds depends on the files alone, so the parts are the same whoever writes them.

    Args:
        source: as for :func:`extract`, and so is the rest.
        out: the folder of the parts; those that are there already are not written anew.
        settings: what is extracted.
        manifest: a CSV that gives the utterances of media files, their texts and labels.
        transcript: subtitles or a text of the one media file.
        turns: an RTTM file that says who speaks when in the one media file.
        jobs: processes that read files at once.
        threads: of each model in each process.
        cache: folder of what was extracted before; None for the user's.
        use_cache: take and keep what is extracted there.
        stall: seconds without progress after which a file is given up.
        report: told how far it is.
        executor: reads the files and writes the parts; its machines must see the cache and ``out``.

    Raises:
        AffectusError: nothing can be read, an option is wrong, or a part cannot be written.
    """
    settings, out = settings or Extraction(), Path(out).resolve()
    open_parts(out)
    plan = plan_sources(source, manifest=manifest, transcript=transcript, turns=turns)
    with _folder(Path(cache) if cache is not None else cache_folder(), use_cache) as folder:
        places, skipped, hits = _read(plan, settings, folder, jobs, threads, stall, report, executor)
        _check_any(places, skipped, source)
        groups = [
            Group(Part(part_path(out, number), part_key(*(place.name for place in group), plan.facts)), group)
            for number, group in enumerate(_groups(plan, places))
        ]
        failures = {str(path): reason for path, reason in skipped.items()}
        rows = write_parts(out, WriteGroups(plan, settings), groups, executor, failures)
    return Written(out, len(groups), rows, len(places), skipped, hits)


def _groups(plan: Plan, places: dict[int, Path]) -> Iterator[tuple[Path, ...]]:
    """Divide the files that could be read into parts; a file that could not be read has its place, too."""
    group: list[Path] = []
    files = size = 0
    for number, source in enumerate(plan.sources):
        more = source.path.stat().st_size if source.path.is_file() else 0
        if files and (files == PART_FILES or size + more > PART_BYTES):
            if group:
                yield tuple(group)
            group, files, size = [], 0, 0
        files, size = files + 1, size + more
        if number in places:
            group.append(places[number])
    if group:
        yield tuple(group)


@dataclass(frozen=True)
class Group:
    """A part, and the folders of the files whose utterances it holds."""

    part: Part
    places: tuple[Path, ...]


@dataclass(frozen=True)
class WriteGroups:
    """Work that puts extracted files together and writes them as a part."""

    plan: Plan
    settings: Extraction

    def open(self) -> Callable[[Group, Alive], None]:
        """Return what writes a part."""
        return self._write

    def done(self, item: Group) -> bool:
        """Return whether a part is there."""
        return item.part.written()

    def _write(self, group: Group, alive: Alive) -> None:
        corpora = [load_corpus(place) for place in group.places]
        corpus = _join(corpora, self.plan, {}, self.settings, group.part.path.stem)
        group.part.write(utterance_table(corpus, self.settings.modalities))


def _check_any(places: dict[int, Path], skipped: dict[Path, str], source: str | Path) -> None:
    if places:
        return
    path, reason = next(iter(skipped.items()))
    if len(skipped) == 1:
        raise AffectusError(reason.rstrip("."))
    raise AffectusError(f"None of the {len(skipped)} files could be read", where=source, got=f"{path.name}: {reason}")


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
    report: Callable[[Progress], None] | None, executor: Executor | None,
) -> tuple[dict[int, Path], dict[Path, str], int]:  # fmt: skip
    """Return the folder of each file that could be read, the others with their reason, and how many were cached."""
    places: dict[int, Path] = {}
    skipped: dict[Path, str] = {}
    tasks: list[Task] = []
    numbers: list[int] = []
    for number, source in enumerate(plan.sources):
        try:
            place = folder.resolve() / cache_key(source, settings)[:32]
        except AffectusError as error:
            skipped[source.path] = str(error)
            continue
        if cached(place) is not None:
            places[number] = place
        else:
            tasks.append(Task(source, place))
            numbers.append(number)
    hits = len(places)
    sizes = [max(task.source.path.stat().st_size, 1) for task in tasks]
    shares, done = [0.0] * len(tasks), 0

    def handle(event: Event) -> None:
        nonlocal done
        if event.unwritten and event.error is not None:
            raise WriteError(event.error.rstrip("."))
        task = tasks[event.number]
        finished = event.done or event.error is not None
        shares[event.number] = 1.0 if finished else event.share
        done += finished
        if event.done:
            if cached(task.folder) is not None:
                places[numbers[event.number]] = task.folder
        elif event.error is not None:
            skipped[task.source.path] = event.error
        if report is not None:
            share = float(np.dot(shares, sizes) / sum(sizes))
            report(Progress(task.source.path, event.what, share, done, len(tasks), event.error))

    if executor is not None:
        for event in _events(executor, ReadFiles(settings, threads), tasks):
            handle(event)
    elif jobs:
        for event in run_tasks(tasks, settings, jobs=jobs, threads=threads, stall=stall):
            handle(event)
    else:
        extractor = Extractor(settings, threads=threads)
        for number, task in enumerate(tasks):
            handle(read_task(extractor, number, task, handle))
    return dict(sorted(places.items())), skipped, hits


def _events(executor: Executor, work: ReadFiles, tasks: Sequence[Task]) -> Iterator[Event]:
    whole = [Task(task.source.resolved(), task.folder) for task in tasks]
    for ended in executor.run(work, whole):
        yield Event(ended.number, "done", 1.0, done=ended.error is None, error=ended.error)


def _join(corpora: Sequence[Corpus], plan: Plan, skipped: dict[Path, str], settings: Extraction, name: str) -> Corpus:
    """Put the corpora of files one after another, and the labels of a manifest to them."""
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
        card.notes += plan.manifest.card.notes
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

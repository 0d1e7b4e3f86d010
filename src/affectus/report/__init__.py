"""Reports: one self-contained HTML page per run, or for several side by side."""

from collections.abc import Sequence
from pathlib import Path

from affectus.corpus import Corpus, load_corpus
from affectus.corpus.storage import corpus_hash
from affectus.evaluation.evaluate import Reporter
from affectus.files import write_text
from affectus.report.collecting import collect
from affectus.report.commands import report_command
from affectus.report.data import Report
from affectus.report.rendering import render
from affectus.training.loading import Run, load_run

__all__ = ["Report", "collect", "render", "write_report"]


def write_report(
    runs: Run | str | Path | Sequence[Run | str | Path],
    corpus: Corpus | str | Path,
    out: str | Path,
    *,
    split: str = "test",
    protocol: str = "akhtar2019",
    video: str | None = None,
    report: Reporter | None = None,
) -> Path:
    """Judge runs on a split of a corpus and write what is found as one HTML file.

    Several runs stand side by side; with two, the page also shows the utterances that they tell differently.

    Args:
        runs: one or more, or their folders.
        corpus: to judge on, in memory or its folder.
        out: the file; an existing one is replaced.
        split: of the corpus.
        protocol: by name.
        video: whose utterances and attention are shown; None chooses the longest of up to twelve utterances.
        report: told what is being done.

    Returns:
        The file.

    Raises:
        AffectusError: the corpus does not fit a run or has no such split or video, the runs have no task in common, one
            is given twice, or the file cannot be written.
    """
    listed = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    opened = [run if isinstance(run, Run) else load_run(run) for run in listed]
    folder = None if isinstance(corpus, Corpus) else Path(corpus)
    out = Path(out)
    found = collect(
        opened,
        corpus if isinstance(corpus, Corpus) else load_corpus(corpus),
        split=split,
        protocol=protocol,
        video=video,
        corpus_hash=corpus_hash(folder) if folder else None,
        command=report_command(
            [run.folder for run in opened], folder, out, split=split, protocol=protocol, video=video
        ),
        report=report,
    )
    write_text(out, render(found))
    return out

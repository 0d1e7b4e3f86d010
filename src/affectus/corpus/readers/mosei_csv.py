"""CMU-MOSEI's labels as CSV, with transcripts (``mosei-text``) and without (``mosei-labels``)."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectus.corpus.card import Card
from affectus.corpus.corpus import Corpus
from affectus.corpus.readers import mosei
from affectus.corpus.readers.base import TEXT_FILE, ReadOptions, make_corpus, one_source, register_reader
from affectus.corpus.readers.tables import CsvTable, read_csv


def _labels(table: CsvTable) -> dict[str, pl.Series]:
    return {mosei.label_name(name): table.numbers(name, *mosei.label_range(name)) for name in mosei.LABELS}


@register_reader(
    "mosei-text",
    summary="CMU-MOSEI, transcripts and a speech recogniser's text, sentiment and six emotions",
    sources="one CSV file",
    options={"text_column": "text (transcript, the default) or ASR (speech recogniser)"},
    example="mosei-text mosei_valtest_text.csv --rename-splits test=train,valid=test --valid-fraction .15 --out mosei",
    kind=TEXT_FILE,
)
def read_mosei_text(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read a CSV with ``video_id, start_time, end_time`` (s), the seven labels, ``text``, ``ASR`` and ``split``.

    Sentiment is in [-3, 3], emotions in [0, 3].

    Raises:
        AffectusError: a column is absent, or a value is no number or out of range.
    """
    column = options.text_column or "text"
    needed = ("video_id", "start_time", "end_time", *mosei.LABELS, "split", column)
    table = read_csv(one_source(sources, TEXT_FILE), needed)
    video = table.strings("video_id", filled=True)
    start = table.numbers("start_time", filled=True)
    # the file has no segment number, so an utterance is named by its place among those of its video
    number = start.to_frame().select(pl.col("start_time").rank("ordinal").over(video))["start_time"] - 1
    records = pl.DataFrame(
        {
            "id": video + "[" + number.cast(pl.String()) + "]",
            "video": video,
            "split": table.strings("split", filled=True),
            "start": start,
            "end": table.numbers("end_time", filled=True),
            "text": table.strings(column).str.strip_chars(),
            **_labels(table),
        }
    )
    card = Card(name="CMU-MOSEI", source=table.path.name, language="en", schemes=mosei.schemes())
    return make_corpus(records, {}, card, options)


@register_reader(
    "mosei-labels",
    summary="CMU-MOSEI, the labels of every segment, without text",
    sources="one CSV file",
    example="mosei-labels mosei_labels_all.csv --out mosei-labels",
    kind=TEXT_FILE,
)
def read_mosei_labels(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read a CSV with ``video_id, segment_id, start, end`` (s), the seven labels and ``split``.

    Sentiment is in [-3, 3], emotions in [0, 3]. Segments whose split is ``none`` are dropped and counted.

    Raises:
        AffectusError: a column is absent, or a value is no number or out of range.
    """
    needed = ("video_id", "segment_id", "start", "end", *mosei.LABELS, "split")
    table = read_csv(one_source(sources, TEXT_FILE), needed)
    video = table.strings("video_id", filled=True)
    records = pl.DataFrame(
        {
            "id": video + "[" + table.strings("segment_id", filled=True) + "]",
            "video": video,
            "split": table.strings("split", filled=True),
            "start": table.numbers("start", filled=True),
            "end": table.numbers("end", filled=True),
            **_labels(table),
        }
    )
    card = Card(name="CMU-MOSEI labels", source=table.path.name, language="en", schemes=mosei.schemes())
    return make_corpus(records, {}, card, options)

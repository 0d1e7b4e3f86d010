"""CH-SIMS's labels and text as CSV, version 1 or 2, in Chinese or English."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectus.corpus.card import Card
from affectus.corpus.corpus import Corpus
from affectus.corpus.readers.base import TEXT_FILE, ReadOptions, make_corpus, one_source, register_reader
from affectus.corpus.readers.tables import read_csv, segment_numbers
from affectus.labels import sentiment_scheme

LANGUAGES = {"chinese": "zh", "text": "zh", "english": "en"}
UNIMODAL = {"text": "label_T", "audio": "label_A", "vision": "label_V"}


@register_reader(
    "sims",
    summary="CH-SIMS version 1 or 2, Chinese and English text, sentiment",
    sources="one CSV file",
    options={"text_column": "chinese (the default) or english"},
    example="sims sims_labels_text.csv --text-column chinese --out sims",
    kind=TEXT_FILE,
)
def read_sims(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read a CSV with ``video_id, clip_id, label`` in [-1, 1]`, split`` and the text columns.

    The data set's own ``meta.csv`` is read too: its ``mode`` is the split, its text is called ``text``, and
    ``label_T, label_A, label_V`` are the labels of one modality each. Clips are ordered by their number.

    Raises:
        AffectusError: a column is absent, or a value is no number or out of range.
    """
    table = read_csv(one_source(sources, TEXT_FILE), ("video_id", "clip_id", "label"))
    split = "mode" if "mode" in table and "split" not in table else "split"
    column = options.text_column or ("text" if "text" in table and "chinese" not in table else "chinese")
    table.require((split, column))
    video, clip = table.strings("video_id", filled=True), table.strings("clip_id", filled=True)
    unimodal = {modality: name for modality, name in UNIMODAL.items() if name in table}
    records = pl.DataFrame(
        {
            "id": video + "_" + clip,
            "video": video,
            "segment": pl.Series(segment_numbers(clip.to_list()), dtype=pl.Int64()),
            "split": table.strings(split, filled=True),
            "text": table.strings(column).str.strip_chars(),
            "sentiment": table.numbers("label", -1, 1),
            **{f"sentiment_{modality}": table.numbers(name, -1, 1) for modality, name in unimodal.items()},
        }
    )
    card = Card(
        name="CH-SIMS v2" if "v2" in table.path.stem.lower() else "CH-SIMS",
        source=table.path.name,
        language=LANGUAGES.get(column),
        schemes=[sentiment_scheme(-1, 1), *(sentiment_scheme(-1, 1, modality=modality) for modality in unimodal)],
    )
    return make_corpus(records, {}, card, options)

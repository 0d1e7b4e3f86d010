"""MELD's CSV files: dialogues of a television series, with speaker, emotion class and sentiment."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectus.corpus.card import Card
from affectus.corpus.corpus import Corpus
from affectus.corpus.readers.base import TEXT_FILE, ReadOptions, make_corpus, register_reader
from affectus.corpus.readers.tables import CsvTable, read_csv, split_of_file
from affectus.errors import AffectusError
from affectus.labels import emotion_class_scheme, sentiment_scheme
from affectus.vocabulary import SEVEN_EMOTIONS, canonical_emotion, canonical_split

COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
EMOTIONS = {
    name: canonical_emotion(name) for name in ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
}
SENTIMENTS = {"negative": "-1", "neutral": "0", "positive": "1"}
_TIME = r"^(\d+):(\d\d):(\d\d)[,.](\d{1,3})$"


@register_reader(
    "meld",
    summary="MELD, dialogue text with speaker, one of seven emotions, and sentiment",
    sources="its CSV files, or the folder that holds them; the split comes from a file's name",
    example="meld train_sent_emo.csv dev_sent_emo.csv --out meld",
    kind=TEXT_FILE,
)
def read_meld(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read ``{train,dev,test}_sent_emo.csv``.

    Dialogue numbers restart in each file, so a video is named ``<split>_dia<number>``. ``joy`` becomes *happiness* and
    ``neutral`` *none*; sentiment is -1, 0 or 1. Times are in seconds within the episode. Utterances keep the order of
    their numbers, since some times step back.

    Raises:
        AffectusError: a column is absent, or a value is none of MELD's.
    """
    paths = [path for source in sources for path in _files(source)]
    tables = [_read(path, options) for path in paths]
    card = Card(
        name="MELD",
        source=", ".join(path.name for path in paths),
        licence="GPL-3.0 (text and labels)",
        language="en",
        schemes=[sentiment_scheme(-1, 1), emotion_class_scheme(SEVEN_EMOTIONS)],
        notes=["Times are seconds within the episode."],
    )
    return make_corpus(pl.concat(tables), {}, card, options)


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    named = sorted(source.glob("*_sent_emo.csv"))
    if not named:
        raise AffectusError("The folder holds no MELD file", where=source, expected="files named *_sent_emo.csv")
    return named


def _seconds(table: CsvTable, column: str) -> pl.Series:
    text = table.strings(column, filled=True).str.strip_chars()
    malformed = ~text.str.contains(_TIME)
    if malformed.any():
        index = int(malformed.arg_max() or 0)
        raise AffectusError(
            "The cell is no time", where=table.where(index, column), got=repr(text[index]), expected="HH:MM:SS,mmm"
        )
    parts = text.str.extract_groups(_TIME).struct.unnest()
    # one digit after the comma is tenths, three are thousandths
    fraction = ("0." + parts["4"]).cast(pl.Float64())
    hours, minutes, seconds = (parts[name].cast(pl.Float64()) for name in ("1", "2", "3"))
    return hours * 3600 + minutes * 60 + seconds + fraction


def _read(path: Path, options: ReadOptions) -> pl.DataFrame:
    table = read_csv(path, COLUMNS)
    split = split_of_file(path)
    prefix = split or (canonical_split(options.split_name) if options.split_name else path.stem)
    dialogue, number = table.numbers("Dialogue_ID", filled=True), table.numbers("Utterance_ID", filled=True)
    video = prefix + "_dia" + dialogue.cast(pl.Int64()).cast(pl.String())
    return pl.DataFrame(
        {
            "id": video + "_utt" + number.cast(pl.Int64()).cast(pl.String()),
            "video": video,
            "segment": number.cast(pl.Int64()),
            "split": pl.Series([split] * len(table), dtype=pl.String()),
            "start": _seconds(table, "StartTime"),
            "end": _seconds(table, "EndTime"),
            "speaker": table.strings("Speaker").str.strip_chars(),
            "text": table.strings("Utterance").str.strip_chars(),
            "sentiment": table.choice("Sentiment", SENTIMENTS).cast(pl.Float32()),
            "emotion_class": table.choice("Emotion", EMOTIONS),
        }
    )

"""CMU-MOSI as an utterance-level NumPy bundle: one vector per utterance and modality, transcripts, sentiment."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers.arrays import Bundle, check_range
from affectus.corpus.readers.base import NPZ, ReadOptions, make_corpus, one_source, register_reader
from affectus.labels import sentiment_scheme

FEATURES = {"text": "text_feat", "audio": "audio_feat", "vision": "video_feat"}
ENCODERS = {"text": "text CNN", "audio": "openSMILE", "vision": "3D-CNN"}


@register_reader(
    "mosi-npz",
    summary="CMU-MOSI, one vector per utterance and modality, the features of bc-LSTM and MMMU-BA",
    sources="one .npz file",
    example="mosi-npz mosi_utterance.npz --splits splits.json --splits-key contextual --out mosi",
    kind=NPZ,
)
def read_mosi_npz(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read a bundle with the arrays ``id, video_id, segment, text, sentiment, start, end, split_std, *_feat``.

    Times are in seconds, sentiment in [-3, 3]. The split is the standard one (``split_std``). The published text and
    vision features come from networks that saw the labels of the 62 training videos of bc-LSTM's split, so they can
    only be judged on the other 10; the card says so.

    Raises:
        AffectusError: an array is absent, damaged or of another shape, or a label is out of range.
    """
    bundle = Bundle(one_source(sources, NPZ))
    ids = bundle.strings("id")
    rows = len(ids)
    sentiment = bundle.array("sentiment", ndim=1, rows=rows, numeric=True)
    check_range(sentiment, -3, 3, label="sentiment", where=bundle.path)
    table = pl.DataFrame(
        {
            "id": ids,
            "video": bundle.strings("video_id", rows=rows),
            "segment": bundle.array("segment", ndim=1, rows=rows, numeric=True),
            "split": bundle.strings("split_std", rows=rows),
            "start": bundle.array("start", ndim=1, rows=rows, numeric=True),
            "end": bundle.array("end", ndim=1, rows=rows, numeric=True),
            "text": bundle.strings("text", rows=rows),
            "sentiment": sentiment,
        }
    )
    features = {
        name: Ragged.from_rows(bundle.array(key, ndim=2, rows=rows, numeric=True)) for name, key in FEATURES.items()
    }
    card = Card(
        name="CMU-MOSI",
        source=bundle.path.name,
        language="en",
        modalities={name: ModalityCard(dim=r.dim, encoder=ENCODERS[name]) for name, r in features.items()},
        schemes=[sentiment_scheme()],
        notes=[
            "The text and vision features come from networks trained with the labels of the 62 training videos of "
            "bc-LSTM's split: train on those and judge only on the other videos, or use other features."
        ],
    )
    return make_corpus(table, features, card, options)

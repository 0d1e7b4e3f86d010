"""CMU-MOSEI as a video-level NumPy bundle: each video is one utterance, its labels are means over its segments."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers import mosei
from affectus.corpus.readers.arrays import Bundle, check_range
from affectus.corpus.readers.base import NPZ, ReadOptions, make_corpus, one_source, register_reader
from affectus.corpus.readers.tables import check_columns

FEATURES = {"text": "text_bert_cls", "audio": "acoustic_covarep40", "vision": "visual_openface35"}
ENCODERS = {"text": "BERT [CLS]", "audio": "COVAREP", "vision": "OpenFace"}


@register_reader(
    "mosei-video",
    summary="CMU-MOSEI, one vector per video and modality, sentiment and six emotions",
    sources="one .npz file",
    example="mosei-video mosei_video_level.npz --rename-splits valid=test --valid-fraction .15 --out mosei-video",
    kind=NPZ,
)
def read_mosei_video(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read a bundle with the arrays ``video_id, split, label_names, labels (N, 7)`` and one (N, D) per modality.

    Sentiment is in [-3, 3], emotions in [0, 3]. Values that are not finite (the acoustic ones hold -inf) are kept.

    Raises:
        AffectusError: an array is absent, damaged or of another shape, or a label is unknown or out of range.
    """
    bundle = Bundle(one_source(sources, NPZ))
    videos = bundle.strings("video_id")
    rows = len(videos)
    names = bundle.strings("label_names")
    check_columns(names, mosei.LABELS, bundle.path)
    labels = bundle.array("labels", ndim=2, rows=rows, columns=len(names), numeric=True)
    columns = {}
    for name in mosei.LABELS:
        values = labels[:, names.index(name)]
        check_range(values, *mosei.label_range(name), label=name, where=bundle.path)
        columns[mosei.label_name(name)] = values
    table = pl.DataFrame({"id": videos, "video": videos, "split": bundle.strings("split", rows=rows), **columns})
    features = {
        name: Ragged.from_rows(bundle.array(key, ndim=2, rows=rows, numeric=True)) for name, key in FEATURES.items()
    }
    card = Card(
        name="CMU-MOSEI videos",
        source=bundle.path.name,
        language="en",
        modalities={name: ModalityCard(dim=r.dim, encoder=ENCODERS[name]) for name, r in features.items()},
        schemes=mosei.schemes(),
        notes=["An utterance is a whole video; its labels are means over the video's segments."],
    )
    return make_corpus(table, features, card, options)

"""The embedded corpus: generated, seeded, and true by construction.

Nobody ever said any of it. It exists so that a model can be tried without data, and so that a test can ask whether a
model finds what was planted. Three effects are planted; the size of each is a parameter in [0, 1], and 0 removes it.

The rule
--------
N(s) is a normal draw of mean 0 and standard deviation s, relu(x) = max(x, 0); all draws are independent unless said
otherwise, so utterances of a video share nothing but what stands below.

1. *Content.* An utterance means a triple c = (z, y, a): valence z, inner feeling y and arousal a. Each is positive or
   negative with equal probability and has a size uniform in [0.4, 2].
2. *Labels.* ``sentiment`` = 1.5 z, in [-3, 3]. Emotions stand in the plane of felt valence and arousal,
   e = (k z + sqrt(1 - k^2) y, a), where k = ``cross_task``. Each of the six has a direction d there (``DIRECTIONS``)
   and the intensity 2 relu(d.e - 1), at most 3, rounded to thirds. ``emotion_class`` is the strongest, or *none* if all
   six are 0.
3. *Own channels.* The reading r of an utterance is c + N(0.2). Text shows r. Audio and vision each show a worse copy of
   the reading, r + N(0.8). So text, where it is there and says what is meant, leaves the others nothing to add.
4. *Cross-modal effect.* The tone g is -1, ironic, with probability 0.3 ``cross_modal``, else 1. Text shows
   (g r_z, g r_y, r_a); audio shows g + N(0.2) in a channel of its own. So the words lie now and then; that they do is
   seen in the other modalities, roughly as the disagreement with their copies, exactly as a product with the tone.
5. *Contextual effect.* With probability 0.4 ``context`` an utterance is *deferred*: in rule 3 its c is replaced by 0,
   so that its own features hold no content, and c is shown by one neighbour instead, in another modality than text: by
   three guest channels, c + N(0.2), of the *audio of the previous* utterance or of the *vision of the next* one, with
   equal probability (an utterance at an end of the video has one neighbour and uses it). Guest channels without a guest
   show N(0.2). Tone does not turn guests round.
6. *Cross-task effect.* k of rule 2: at 1 sentiment and felt valence are the same number, at 0 they are independent and
   neither task tells anything of the other. A training utterance has emotion labels with probability ``emotion_labels``
   only (the six together; ``emotion_class`` by a draw of its own). So the many sentiment labels can teach what the few
   emotion labels cannot.
7. *Vectors.* A modality's channels are rotated into ``dims`` dimensions by a random matrix with orthonormal rows, and
   N(0.1) is added to every dimension. With ``steps`` each modality is a sequence with one step per word of the
   transcript: the vector plus N(0.5) at each step, centred so that the mean over the steps is the vector again.
8. *Missing modalities.* Each modality of an utterance is missing with probability ``missing``, but if all three would
   be, text stays. Where text is missing there is no transcript.
9. *Missing labels.* Every label that rule 6 does not make rare is there with probability 0.95.
10. *One modality's sentiment.* ``sentiment_text``, ``_audio`` and ``_vision`` are 1.5 x, clipped to [-3, 3], of the
    valence x that the modality shows (its first channel); missing where the modality is.
11. *Text.* A transcript of 3 to 8 words is built from the channels of text: an adjective for the first, a feeling for
    the second; a deferred utterance says something empty. Transcripts hold no other signal.

A parameter changes nothing but what it governs: corpora of one seed have the same contents, noise and splits whatever
the sizes of the effects (the noise of single steps apart). Numbers are drawn by NumPy's PCG64, features are rounded to
four decimals.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus, build_corpus
from affectus.corpus.ragged import Ragged
from affectus.errors import AffectusError, unknown_name
from affectus.labels import LabelScheme, emotion_class_scheme, emotions_scheme, sentiment_scheme
from affectus.vocabulary import AUDIO, KNOWN_MODALITIES, SEVEN_EMOTIONS, SIX_EMOTIONS, TEXT, VISION, Emotion, Split

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Generator = np.random.Generator

DIRECTIONS: Mapping[str, tuple[float, float]] = {
    "anger": (-0.6, 0.8),
    "disgust": (-0.96, 0.28),
    "fear": (-0.28, 0.96),
    "happiness": (0.96, -0.28),
    "sadness": (-0.6, -0.8),
    "surprise": (0.6, 0.8),
}
"""Where each emotion stands in the plane of valence and arousal, unit vectors."""
DIMS: Mapping[str, int] = {TEXT: 32, AUDIO: 16, VISION: 16}
SHARES: Mapping[str, float] = {Split.TRAIN: 0.6, Split.VALID: 0.15, Split.TEST: 0.25}
"""Share of the videos in each split."""
FEWEST_UTTERANCES, MOST_UTTERANCES = 4, 12
MOST_IRONIC, MOST_DEFERRED = 0.3, 0.4
"""Share of ironic and of deferred utterances at an effect size of 1."""
CHANNELS: Mapping[str, int] = {TEXT: 3, AUDIO: 7, VISION: 6}
"""Channels of each modality: the reading; in audio the tone; in audio and vision three for a guest."""
LABELLED = 0.95


def make_embedded(
    *,
    videos: int = 300,
    seed: int = 0,
    context: float = 1.0,
    cross_modal: float = 1.0,
    cross_task: float = 1.0,
    missing: float = 0.1,
    emotion_labels: float = 0.2,
    steps: bool = False,
    dims: Mapping[str, int] | None = None,
) -> Corpus:
    """Generate the embedded corpus by the rule in this module's docstring.

    Args:
        videos: how many, at least 4; each has 4 to 12 utterances.
        seed: of everything that is drawn.
        context: size of the contextual effect in [0, 1]; 0.4 of it is the share of deferred utterances.
        cross_modal: size of the cross-modal effect in [0, 1]; 0.3 of it is the share of ironic utterances.
        cross_task: size of the cross-task effect in [0, 1], the correlation of sentiment with felt valence.
        missing: share of missing modalities, in [0, 1).
        emotion_labels: share of training utterances that have emotion labels, in (0, 1].
        steps: word-aligned sequences of 3 to 8 steps instead of one vector per utterance.
        dims: width of the vectors of each modality; those not named keep 32 (text), 16 (audio), 16 (vision).

    Returns:
        A corpus with ``card.generated`` set, all label kinds, speakers, times and transcripts.

    Raises:
        AffectusError: a parameter is out of its range.
    """
    widths = _check(videos, seed, dims, context, cross_modal, cross_task, missing, emotion_labels)
    names = ("layout", "content", "noise", "effects", "rotation", "dimensions", "missing", "labels", "words", "steps")
    streams = np.random.SeedSequence(seed).spawn(len(names))
    draw = {name: np.random.Generator(np.random.PCG64(s)) for name, s in zip(names, streams, strict=True)}

    table, position, last = _layout(draw["layout"], videos)
    count = len(position)
    signs, sizes = draw["content"].choice([-1.0, 1.0], (count, 3)), draw["content"].uniform(0.4, 2.0, (count, 3))
    content = signs * sizes  # (z, y, a)
    tone = np.where(draw["effects"].random(count) < MOST_IRONIC * cross_modal, -1.0, 1.0)
    deferred = draw["effects"].random(count) < MOST_DEFERRED * context
    backward = np.where(last, True, (position > 0) & (draw["effects"].random(count) < 0.5))
    channels = _channels(draw["noise"], content, tone, deferred, backward)
    present = _present(draw["missing"], count, missing)
    transcripts = _transcripts(draw["words"], channels[TEXT], deferred)
    lengths = np.array([len(words) for words in transcripts])

    features = {}
    for m, name in enumerate(KNOWN_MODALITIES):
        vectors = channels[name] @ _rotation(draw["rotation"], CHANNELS[name], widths[name])
        vectors += draw["dimensions"].normal(scale=0.1, size=vectors.shape)
        repeats = lengths if steps else np.ones(count, np.int64)
        if steps:
            vectors = _as_steps(draw["steps"], vectors, lengths)
        kept = np.repeat(present[:, m], repeats)
        offsets = np.concatenate([[0], np.cumsum(np.where(present[:, m], repeats, 0))]).astype(np.int64)
        features[name] = Ragged(np.round(vectors[kept], 4).astype(np.float32), offsets)

    schemes = [
        sentiment_scheme(),
        emotions_scheme(),
        emotion_class_scheme(SEVEN_EMOTIONS),
        *(sentiment_scheme(modality=name) for name in KNOWN_MODALITIES),
    ]
    shown = {name: channels[name][:, 0] for name in KNOWN_MODALITIES}
    train = (table["split"] == Split.TRAIN).to_numpy()
    labels = _labels(draw["labels"], content, shown, present, train, cross_task, emotion_labels)
    said = [words if there else None for words, there in zip(transcripts, present[:, 0], strict=True)]
    table = _with_text(table, said, with_words=steps).with_columns(**labels)
    parameters = (
        f"seed {seed}, context {context:g}, cross_modal {cross_modal:g}, cross_task {cross_task:g}, missing {missing:g}"
    )
    return build_corpus(table, features, _card(schemes, widths, steps, parameters, emotion_labels))


def _check(videos: int, seed: int, dims: Mapping[str, int] | None, *shares: float) -> dict[str, int]:
    if videos < 4:
        raise AffectusError("The embedded corpus needs more videos", got=videos, expected="at least 4")
    if seed < 0:
        raise AffectusError("The seed of the embedded corpus is negative", got=seed, expected="a whole number from 0")
    context, cross_modal, cross_task, missing, emotion_labels = shares
    effects = {"context": context, "cross_modal": cross_modal, "cross_task": cross_task}
    for name, size in effects.items():
        if not 0 <= size <= 1:
            raise AffectusError(f"The effect size {name!r} is out of range", got=size, expected="a number in [0, 1]")
    if not 0 <= missing < 1:
        raise AffectusError("The share of missing modalities is out of range", got=missing, expected="in [0, 1)")
    if not 0 < emotion_labels <= 1:
        raise AffectusError("The share of emotion labels is out of range", got=emotion_labels, expected="in (0, 1]")
    widths = dict(DIMS)
    for name, dim in (dims or {}).items():
        if name not in widths:
            raise unknown_name("modality", name, widths, where="the embedded corpus")
        if dim < CHANNELS[name]:
            raise AffectusError(f"The {name} vectors are too narrow", got=dim, expected=f"at least {CHANNELS[name]}")
        widths[name] = dim
    return widths


def _layout(draw: Generator, videos: int) -> tuple[pl.DataFrame, npt.NDArray[np.int64], BoolArray]:
    """Draw splits, speakers and times.

    Returns:
        One row per utterance; the (n,) position of each in its video; (n,) True for the last of a video.
    """
    sizes = draw.integers(FEWEST_UTTERANCES, MOST_UTTERANCES + 1, size=videos)
    bounds = np.clip(np.round(np.cumsum(list(SHARES.values())) * videos).astype(int), [1, 2, 3], None)
    splits = np.repeat(list(SHARES), np.diff(bounds, prepend=0))
    # a speaker stands in one split alone
    voices = draw.integers(0, 1 + videos // 6, size=videos)
    speakers = [f"{split}-speaker-{number:03d}" for split, number in zip(splits, voices, strict=True)]
    video = np.repeat(np.arange(videos), sizes)
    position = np.arange(len(video)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    seconds, pauses = draw.uniform(1.0, 4.0, len(video)), draw.uniform(0.1, 0.8, len(video))
    total = np.cumsum(seconds + pauses)
    first = np.repeat(np.flatnonzero(position == 0), sizes)
    end = np.round(total - (total - seconds - pauses)[first], 2)
    names = [f"video-{number:04d}" for number in video]
    table = pl.DataFrame(
        {
            "id": [f"{name}-{i:02d}" for name, i in zip(names, position)],
            "video": names,
            "split": [str(splits[v]) for v in video],
            "start": np.round(end - seconds, 2),
            "end": end,
            "speaker": [speakers[v] for v in video],
        }
    )
    return table, position, position == sizes[video] - 1


def _channels(
    draw: Generator, content: FloatArray, tone: FloatArray, deferred: BoolArray, backward: BoolArray
) -> dict[str, FloatArray]:
    """Show the content: own channels, the tone and guests, each with its noise (rules 3 to 5)."""
    count = len(content)
    own = np.where(deferred[:, None], 0.0, content)
    guests = {"previous": np.zeros((count, 3)), "next": np.zeros((count, 3))}
    for where, rows, step in (
        ("previous", np.flatnonzero(deferred & backward), -1),
        ("next", np.flatnonzero(deferred & ~backward), 1),
    ):
        guests[where][rows + step] = content[rows]

    def noisy(values: FloatArray, scale: float) -> FloatArray:
        return values + draw.normal(scale=scale, size=values.shape)

    reading = noisy(own, 0.2)
    turned = reading * np.stack([tone, tone, np.ones(count)], axis=1)
    audio = [noisy(reading, 0.8), noisy(tone[:, None], 0.2), noisy(guests["previous"], 0.2)]
    vision = [noisy(reading, 0.8), noisy(guests["next"], 0.2)]
    return {TEXT: turned, AUDIO: np.concatenate(audio, axis=1), VISION: np.concatenate(vision, axis=1)}


def _rotation(draw: Generator, channels: int, dim: int) -> FloatArray:
    """Draw a (channels, dim) matrix with orthonormal rows."""
    rotation: FloatArray = np.linalg.qr(draw.normal(size=(dim, channels)))[0].T
    return rotation


def _as_steps(draw: Generator, vectors: FloatArray, lengths: npt.NDArray[np.int64]) -> FloatArray:
    """Spread each vector over its steps, so that their mean is the vector."""
    noise = draw.normal(scale=0.5, size=(int(lengths.sum()), vectors.shape[1]))
    starts = np.cumsum(lengths) - lengths
    centres = np.add.reduceat(noise, starts, axis=0) / lengths[:, None]
    return np.repeat(vectors - centres, lengths, axis=0) + noise


def _present(draw: Generator, count: int, missing: float) -> BoolArray:
    """(n, 3) True where an utterance has the modality, in affectus's order."""
    present = draw.random((count, len(KNOWN_MODALITIES))) >= missing
    present[~present.any(axis=1), 0] = True
    return present


def _labels(
    draw: Generator,
    content: FloatArray,
    shown: Mapping[str, FloatArray],
    present: BoolArray,
    train: BoolArray,
    cross_task: float,
    emotion_labels: float,
) -> dict[str, pl.Series]:
    count = len(content)
    valence, inner, arousal = content.T
    felt = np.stack([cross_task * valence + np.sqrt(1 - cross_task**2) * inner, arousal], axis=1)
    directions = np.array([DIRECTIONS[name] for name in SIX_EMOTIONS])
    raw = np.clip(2 * (felt @ directions.T - 1), 0, 3)
    intensity = np.round(raw * 3) / 3
    strongest = np.where(intensity.max(axis=1) > 0, raw.argmax(axis=1), SEVEN_EMOTIONS.index(Emotion.NONE))

    def real(values: FloatArray, known: BoolArray) -> pl.Series:
        return pl.Series([float(v) if k else None for v, k in zip(values, known, strict=True)], dtype=pl.Float32)

    def sentiment(values: FloatArray) -> FloatArray:
        clipped: FloatArray = np.clip(1.5 * values, -3.0, 3.0).round(2)
        return clipped

    labels = {"sentiment": real(sentiment(valence), draw.random(count) < LABELLED)}
    often = np.where(train, emotion_labels, LABELLED)
    known = draw.random(count) < often
    labels |= {name: real(intensity[:, k], known) for k, name in enumerate(SIX_EMOTIONS)}
    known = draw.random(count) < often
    classes = [SEVEN_EMOTIONS[k] if there else None for k, there in zip(strongest, known, strict=True)]
    labels["emotion_class"] = pl.Series(classes, dtype=pl.String)
    for m, name in enumerate(KNOWN_MODALITIES):
        known = (draw.random(count) < LABELLED) & present[:, m]
        labels[f"sentiment_{name}"] = real(sentiment(shown[name]), known)
    return labels


_THINGS = ("it", "this phone", "the film", "her talk", "dinner", "the hotel", "that book", "the concert", "the game")
_ADVERBS = ("", "really", "just", "honestly")
_ADJECTIVES = (
    ("terrible", "awful", "horrible"),
    ("poor", "dull", "disappointing"),
    ("ordinary", "average", "acceptable"),
    ("good", "nice", "pleasant"),
    ("wonderful", "brilliant", "superb"),
)
_FEELINGS = (
    ("miserable", "hopeless"),
    ("uneasy", "low"),
    ("calm", "indifferent"),
    ("content", "cheerful"),
    ("thrilled", "overjoyed"),
)
_EMPTY = (
    "you know what I mean",
    "that is how it went",
    "as I was saying",
    "let me put it this way",
    "well you saw that",
    "so there you have it",
)
_LEVELS = (-1.2, -0.4, 0.4, 1.2)


def _transcripts(draw: Generator, text: FloatArray, deferred: BoolArray) -> list[list[str]]:
    """Say what the two channels of text show, in 3 to 8 words (rule 11)."""
    levels = np.digitize(text[:, :2], _LEVELS)
    # one row of draws per utterance, so that the effects' sizes move no later draw
    picks = draw.random((len(text), 6))

    def pick(options: tuple[str, ...], at: float) -> str:
        return options[int(at * len(options))]

    said = []
    for (adjective, feeling), empty, at in zip(levels, deferred, picks, strict=True):
        if empty:
            said.append(pick(_EMPTY, at[0]).split())
            continue
        words = [pick(_THINGS, at[1]), "was", pick(_ADVERBS, at[2]), pick(_ADJECTIVES[adjective], at[3])]
        if at[4] < 0.5:
            words += ["I", "feel", pick(_FEELINGS[feeling], at[5])]
        said.append(" ".join(words).split())
    return said


def _with_text(table: pl.DataFrame, said: list[list[str] | None], *, with_words: bool) -> pl.DataFrame:
    table = table.with_columns(pl.Series("text", [None if w is None else " ".join(w) for w in said], pl.String))
    if not with_words:
        return table
    spans = zip(table["start"], table["end"], said, strict=True)
    cuts = [None if w is None else np.round(np.linspace(start, end, len(w) + 1), 3).tolist() for start, end, w in spans]
    return table.with_columns(
        pl.Series("words", said, pl.List(pl.String)),
        pl.Series("word_starts", [None if c is None else c[:-1] for c in cuts], pl.List(pl.Float64)),
        pl.Series("word_ends", [None if c is None else c[1:] for c in cuts], pl.List(pl.Float64)),
    )


def _card(
    schemes: list[LabelScheme], widths: Mapping[str, int], steps: bool, parameters: str, emotion_labels: float
) -> Card:
    return Card(
        name="embedded",
        source="Generated by affectus (affectus.corpus.embedded, which states the rule); nobody said any of it",
        licence="CC0-1.0",
        language="en",
        generated=True,
        word_aligned=steps,
        modalities={name: ModalityCard(dim=dim, encoder="generated") for name, dim in widths.items()},
        schemes=schemes,
        notes=[
            "Generated: no figure on this corpus says anything about people.",
            f"Parameters: {parameters}.",
            f"A share of {emotion_labels:g} of the training utterances has emotion labels, by design.",
        ],
    )

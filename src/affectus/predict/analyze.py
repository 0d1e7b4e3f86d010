"""A recording or a text -> what its utterances express."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from affectus.corpus import Corpus, ModalityCard, Ragged
from affectus.errors import AffectusError
from affectus.features.media.decoding import probe
from affectus.features.media.recording import Extractor, Source
from affectus.features.media.settings import NONE, Extraction
from affectus.features.media.sources import transcript_beside
from affectus.features.media.subtitles import SUBTITLE_SUFFIXES, TEXT_SUFFIXES
from affectus.files import valid_text
from affectus.predict.predictor import Predictor
from affectus.predict.results import Analysis
from affectus.threads import usable_cores
from affectus.training.loading import Run
from affectus.vocabulary import AUDIO, TEXT, VISION

Report = Callable[[str, float], None]
"""Called with what is being done and how much is done, 0 to 1."""
PREDICTING = "predicting"
VIDEO_MEDIA, AUDIO_MEDIA, TEXT_MEDIA = "video", "audio", "text"


def _quiet(what: str, share: float) -> None:
    pass


class Stopwatch:
    """Tells on what time was spent, from the reports of what is being done.

    Of things that are done side by side each gets a share, and all together the time that passed.

    Args:
        report: is told, too.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._what: str | None = None
        self._since = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def __call__(self, what: str, share: float) -> None:
        """Take note that something is done; the time since the note before goes to what it is, since it just was."""
        now = time.perf_counter()
        self.seconds[what] = self.seconds.get(what, 0.0) + now - self._since
        self._since = now
        self._report(what, share)


def analyze(
    path: str | Path,
    *,
    model: "Predictor | Run | str | Path | None" = None,
    transcript: str | Path | None = None,
    turns: str | Path | None = None,
    settings: Extraction | None = None,
    threads: int = 1,
    report: Report | None = None,
    **options: Any,
) -> Analysis:
    """Tell what the utterances of a recording or of a text express.

    Nothing leaves the machine. Of a video its speech, voice and faces are read, of sound its speech and voice, of a
    text (``.txt``) or subtitles (``.srt``, ``.vtt``) the words.

    Args:
        path: the file.
        model: a predictor, a run or its folder; None for the model that ships.
        transcript: subtitles or a text that belong to the recording; None for those of its name beside it, if there are
            any (``clip.srt`` of ``clip.mp4``), and else recognised speech; ``"none"`` for recognised speech.
        turns: an RTTM file that says who speaks when.
        settings: how features are made; None for the default, as the shipped model needs them.
        threads: of each network.
        report: told what is being done, and which share is done.
        **options: single settings of :class:`affectus.features.media.settings.Extraction`, such as ``face="speaking"``
            or ``recognizer="none"``.

    Returns:
        Opinions of each utterance, of all modalities together and of each by itself.

    Raises:
        AffectusError: the file cannot be read or holds nothing, a package is absent, or the model reads other features.

    Example:
        >>> import affectus
        >>> for utterance in affectus.analyze("clip.mp4").utterances:  # doctest: +SKIP
        ...     print(utterance.start, utterance.text, utterance.opinion.emotion, utterance.opinion.intensity)
    """
    source = Path(path)
    if not source.is_file():
        raise AffectusError("There is no file" if not source.is_dir() else "This is a folder, not a file", where=source)
    watch = Stopwatch(report or _quiet)
    predictor = Predictor.load(model)
    chosen = _settings(settings, options, predictor)
    watch("loading", 0.0)
    extractor = Extractor(chosen, threads=threads, side_by_side=usable_cores() > 1)
    given = transcript_beside(source) if transcript is None else Path(transcript) if transcript != NONE else None
    planned = Source(source, valid_text(source.stem), given, turns=None if turns is None else Path(turns))
    corpus = extractor.read(planned, lambda what, share: watch(what, 0.95 * share))
    utterances = predictor.predict(
        _filled(corpus, predictor),
        threads=threads,
        progress=lambda done, total: watch(PREDICTING, 0.95 + 0.05 * done / max(total, 1)),
    )
    beside = []
    if transcript is None and given is not None:
        beside = [f"The transcript is {given.name}, which lies beside the recording."]
    media, duration = kind_of(source)
    ends = [one.end for one in utterances if one.end is not None]
    if media != TEXT_MEDIA and duration is None and ends:
        duration = max(ends)
    return Analysis(
        source=str(path),
        utterances=utterances,
        model=predictor.identity,
        duration=duration,
        media=media,
        seconds={what: spent for what, spent in watch.seconds.items() if what != "done"},
        notes=(
            *beside,
            *corpus.card.notes,
            *_absent(corpus.features, media, predictor),
            *predictor.notes(corpus),
        ),
    )


def _filled(corpus: Corpus, predictor: Predictor) -> Corpus:
    """Return the corpus with what a run reads and the file lacks as missing everywhere, unless it lacks all of it."""
    if predictor.run is None:
        return corpus
    inputs = predictor.run.file.inputs
    own = {TEXT} if predictor.run.text is not None else set()  # made from transcripts
    if own or inputs.keys() & corpus.features.keys():
        for name in inputs.keys() - corpus.features.keys() - own:
            nothing = Ragged.from_sequences([None] * len(corpus), inputs[name])
            corpus = corpus.with_features(name, nothing, ModalityCard(dim=inputs[name]))
    return corpus


def _settings(settings: Extraction | None, options: dict[str, Any], predictor: Predictor) -> Extraction:
    """Return how features are made: what the model does not read is not made."""
    known = set(Extraction.__dataclass_fields__)
    for name in options:
        if name not in known:
            from affectus.errors import unknown_name

            raise unknown_name("setting of the extraction", name, known)
    chosen = settings or Extraction()
    if settings is None:
        reads = predictor.modalities
        # the shipped model reads transcripts itself, with what it learned; so does a run with a text encoder
        own_text = predictor.run is None or predictor.run.text is not None
        chosen = replace(
            chosen,
            text=NONE if own_text or TEXT not in reads else chosen.text,
            # an extraction makes something, even for a run that reads nothing but transcripts
            audio=chosen.audio if AUDIO in reads or (own_text and set(reads) == {TEXT}) else NONE,
            vision=chosen.vision if VISION in reads else NONE,
        )
    return replace(chosen, **options) if options else chosen


def kind_of(path: Path) -> tuple[str, float | None]:
    """Return ``video``, ``audio`` or ``text``, and the length in seconds as far as the file tells."""
    if path.suffix.lower() in SUBTITLE_SUFFIXES | TEXT_SUFFIXES:
        return TEXT_MEDIA, None
    media = probe(path)
    return (VIDEO_MEDIA if media.has_video else AUDIO_MEDIA), media.duration


def _absent(features: Any, media: str, predictor: Predictor) -> list[str]:
    """Say what was looked for in vain."""
    if media == VIDEO_MEDIA and VISION in predictor.modalities and VISION not in features:
        return ["No face was seen, so vision says nothing."]
    return []

"""One file -> its utterances and their features."""

import bisect
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus import Card, Corpus, ModalityCard, Ragged
from affectus.corpus.corpus import build_corpus
from affectus.errors import AffectusError
from affectus.features.encoders import TextEncoder, load_encoder
from affectus.features.media import alignment, segmentation
from affectus.features.media.acoustic import FRAME_RATE, RATE
from affectus.features.media.decoding import Frame, Media, audio_blocks, audio_stretches, probe, video_frames
from affectus.features.media.extractors import (
    SoundFeatures,
    TextFeatures,
    VisionFeatures,
    called,
    checked,
    create_extractor,
    is_extractor,
)
from affectus.features.media.faces.tracks import Face, FaceReader
from affectus.features.media.recognition import Recognizer, load_recognizer
from affectus.features.media.settings import LARGEST, NONE, SPEAKING, Extraction, Segments, TextLevel
from affectus.features.media.sound import load_sound_features
from affectus.features.media.speakers import speaking_face
from affectus.features.media.subtitles import (
    SUBTITLE_SUFFIXES,
    TEXT_SUFFIXES,
    guessed_encoding,
    read_subtitles,
    read_transcript,
)
from affectus.features.media.turns import Diarizer, load_diarizer, read_rttm, speaker_of
from affectus.features.media.voice import Stretch, speech_probabilities, speech_stretches
from affectus.features.media.words import Word
from affectus.features.text import Level, encode_texts
from affectus.vocabulary import AUDIO, TEXT, VISION, Split

FloatArray = npt.NDArray[np.float32]
Report = Callable[[str, float], None]
"""Called with what is being done and how much of the file is done, from 0 to 1."""

LONGEST_PIECE = 30.0
"""Seconds of sound that are in memory at once."""
MAX_UTTERANCES = 100_000
"""Most utterances of one file."""
SLACK = 1.0
"""Seconds that an utterance may end after its recording without a word; it is cut to it in any case."""
_NEAR = 5.0
"""Seconds between utterances over which pictures are read on, so that faces keep their track."""


@dataclass(frozen=True)
class Given:
    """An utterance that a manifest gives.

    Attributes:
        id: of its row.
        start: seconds; None for the start of the file.
        end: seconds; None for its end.
        text: its transcript; None if it is to be recognised.
        speaker: its speaker, or None.
    """

    id: str
    start: float | None = None
    end: float | None = None
    text: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Source:
    """A file and what is known about it.

    Attributes:
        path: media, subtitles or a text.
        video: name of the recording.
        transcript: subtitles or a text that belong to it; None for none.
        given: the utterances that a manifest gives; empty if they are to be found.
        turns: RTTM file that says who speaks when; None for none.
    """

    path: Path
    video: str
    transcript: Path | None = None
    given: tuple[Given, ...] = ()
    turns: Path | None = None

    @property
    def timed(self) -> bool:
        """Whether a manifest or subtitles say when an utterance is."""
        if self.given:
            return any(one.start is not None or one.end is not None for one in self.given)
        return self.transcript is not None and self.transcript.suffix.lower() in SUBTITLE_SUFFIXES

    def resolved(self) -> "Source":
        """Return it with whole paths, for a process that runs elsewhere."""
        paths = {name: getattr(self, name) for name in ("path", "transcript", "turns")}
        return replace(self, **{name: path.resolve() for name, path in paths.items() if path is not None})


Timed = tuple[FloatArray, npt.NDArray[np.float64]]
"""(T, D) values and (T,) the second at which each begins."""


@dataclass
class _Utterance:
    start: float | None
    end: float | None
    text: str | None = None
    speaker: str | None = None
    id: str | None = None
    words: list[Word] | None = None
    face: int | None = None
    sound: Timed | None = None
    vision: Timed | None = None

    @property
    def times(self) -> Stretch:
        """Begin and end; of media both are known."""
        return self.start or 0.0, self.end or 0.0


@dataclass
class _Face:
    """What is kept of a face: the picture and the landmarks are not."""

    track: int
    area: float
    mouth: FloatArray
    vector: FloatArray


@dataclass
class _Found:
    """What has been found in a file so far."""

    utterances: list[_Utterance] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    probabilities: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    faces: list[list[_Face]] = field(default_factory=list)
    views: list[FloatArray | None] = field(default_factory=list)
    pictures: list[float] = field(default_factory=list)
    silent: bool = False
    """Nobody speaks: a recogniser would make words up."""

    @property
    def speech(self) -> list[Stretch]:
        return speech_stretches(self.probabilities)


def _quiet(what: str, share: float) -> None:
    pass


_HEARD = (0.1, 0.5)
"""Between which shares of the work sound is heard; pictures come after it, or beside it."""


class _EndedError(Exception):
    """Ends the reading of pictures of which nobody wants to know any more."""


class Extractor:
    """Reads files one after another; what it needs is loaded once, when first needed.

    Args:
        settings: what is extracted.
        threads: of each model. More of them than idle cores make this many times slower.
        side_by_side: read pictures while speech is recognised and sound described; for a second core that is idle.
    """

    def __init__(self, settings: Extraction | None = None, *, threads: int = 1, side_by_side: bool = False) -> None:
        self.settings = settings or Extraction()
        self.threads = threads
        self.side_by_side = side_by_side

    @cached_property
    def _encoder(self) -> TextEncoder | TextFeatures:
        found: TextEncoder | TextFeatures
        name = self.settings.text
        found = create_extractor(name, threads=self.threads) if is_extractor(name, TEXT) else load_encoder(name)
        return found

    @cached_property
    def _recognizer(self) -> Recognizer:
        return load_recognizer(self.settings.recognizer, language=self.settings.language, threads=self.threads)

    @cached_property
    def _sound(self) -> SoundFeatures:
        return load_sound_features(self.settings.audio, threads=self.threads)

    @cached_property
    def _vision(self) -> VisionFeatures:
        found: VisionFeatures = create_extractor(str(self.settings.vision), threads=self.threads)
        if not found.faces and self.settings.face != LARGEST:
            raise AffectusError(
                f"The extractor {self.settings.vision!r} describes whole pictures, so that no face can be chosen",
                got=f"--face {self.settings.face}",
                remedy="Leave --face out",
            )
        return found

    @cached_property
    def _face_reader(self) -> FaceReader:
        return FaceReader(threads=self.threads)

    @cached_property
    def _diarizer(self) -> Diarizer:
        return load_diarizer(str(self.settings.diarizer))

    def read(self, source: Source, report: Report = _quiet) -> Corpus:
        """Return one recording as a corpus: its utterances, all in train, and their features.

        Its table has, beside the usual columns, ``face``: the track whose values are the utterance's vision; null if
        there is none.

        Raises:
            AffectusError: the file cannot be read, holds nothing, or a package or model is absent.
        """
        is_text = source.path.suffix.lower() in SUBTITLE_SUFFIXES | TEXT_SUFFIXES
        texts = [source.path if is_text else source.transcript, source.turns]
        guessed = [note for path in texts if path is not None and (note := guessed_encoding(path)) is not None]
        found = self._read_text(source) if is_text else self._read_media(source, report)
        found.notes[:0] = guessed
        if not found.utterances:
            raise AffectusError("The file holds no utterance", where=source.path)
        if len(found.utterances) > MAX_UTTERANCES:
            raise AffectusError(
                "The file holds too many utterances", where=source.path, got=len(found.utterances),
                expected=f"at most {MAX_UTTERANCES}",
            )  # fmt: skip
        return self._corpus(source, found, report)

    def _read_text(self, source: Source) -> _Found:
        if source.given:
            raise AffectusError("A manifest's path must be a media file", where=source.path)
        found = _Found()
        if source.path.suffix.lower() in SUBTITLE_SUFFIXES:
            cues = read_subtitles(source.path)
            found.utterances = [_Utterance(cue.start, cue.end, cue.text, cue.speaker) for cue in cues]
        else:
            found.utterances = [_Utterance(None, None, text) for text in read_transcript(source.path)]
        return found

    def _read_media(self, source: Source, report: Report) -> _Found:
        media = probe(source.path)
        told = media.duration
        found = _Found()
        needs_sound = self.settings.audio != NONE or self.settings.recognizer != NONE or not source.given
        if media.has_audio and needs_sound:
            media = self._listen(media, found, report)
        heard = len(found.probabilities) / FRAME_RATE
        # what a file of sound says of its length may be a guess
        length = max(told or 0.0, heard) if heard or media.has_video else 0.0
        self._segment(source, media, found, length or None)
        watches = self.settings.vision != NONE and media.has_video
        transcript = source.transcript
        divided = transcript is not None and transcript.suffix.lower() not in SUBTITLE_SUFFIXES and not source.given
        if watches and media.has_audio and self.side_by_side and not divided:
            self._hear_and_watch(media, found, report)
        else:
            if media.has_audio:
                self._transcribe(media, found, report)
            if transcript is not None and divided:
                self._divide_transcript(transcript, found)
            if media.has_audio and self.settings.audio != NONE:
                self._describe(media, found, report)
            if watches:
                self._watch(media, found, report)
        self._tell_speakers(source, found)
        return found

    def _hear_and_watch(self, media: Media, found: _Found, report: Report) -> None:
        """Do what the sound wants while another thread reads the pictures; the two write different things.

        Most of either is done outside of Python's lock, by networks and decoders.
        """
        lock, ended = threading.Lock(), threading.Event()
        heard, seen = _HEARD[0], _HEARD[1]

        def tell_heard(what: str, share: float) -> None:
            nonlocal heard
            with lock:
                heard = share
                report(what, heard + seen - _HEARD[1])

        def tell_seen(what: str, share: float) -> None:
            nonlocal seen
            if ended.is_set():
                raise _EndedError
            with lock:
                seen = share
                report(what, heard + seen - _HEARD[1])

        with ThreadPoolExecutor(1, thread_name_prefix="pictures") as pool:
            watching = pool.submit(self._watch, media, found, tell_seen)
            try:
                self._transcribe(media, found, tell_heard)
                if self.settings.audio != NONE:
                    self._describe(media, found, tell_heard)
                heard = _HEARD[1]
                watching.result()
            finally:
                ended.set()  # if the sound failed, the pictures are not read to their end

    def _listen(self, media: Media, found: _Found, report: Report) -> Media:
        """Look where somebody speaks; sound that cannot be decoded is none."""
        try:
            heard = 0.0
            total = media.duration or 0.0

            def blocks() -> Any:
                nonlocal heard
                for block in audio_blocks(media.path):
                    heard += len(block) / RATE
                    report("listening", 0.1 * min(heard / total, 1.0) if total else 0.0)
                    yield block

            found.probabilities = speech_probabilities(blocks())
        except AffectusError as error:
            if not media.has_video or "need" in error.what:
                raise
            found.notes.append(f"The sound is left out: {error}")
            return replace(media, has_audio=False)
        return replace(media, duration=len(found.probabilities) / FRAME_RATE)

    def _segment(self, source: Source, media: Media, found: _Found, length: float | None) -> None:
        """Find the utterances; those that are given lie within the recording, if its length is known."""
        settings = self.settings
        if source.given:
            for given in source.given:
                start, end = given.start or 0.0, given.end if given.end is not None else media.duration
                if length is not None and start >= length:
                    raise AffectusError(
                        "The utterance begins after the end of its recording",
                        where=f"{source.path.name}, utterance {given.id!r}",
                        got=f"a start of {start:g}",
                        expected=f"less than {length:.1f}, the length of the recording",
                        remedy="Mend the row: times are in seconds from the start of the file that it names",
                    )
                if end is None or end <= start or start < 0:
                    raise AffectusError(
                        "The times of the utterance are no stretch of time",
                        where=f"{source.path.name}, utterance {given.id!r}",
                        got=f"{start:g} to {'the end, which the file does not tell' if end is None else f'{end:g}'}",
                    )
                found.utterances.append(_Utterance(start, end, given.text, given.speaker, given.id))
            _cut(found, length)
            return
        if source.transcript is not None and source.transcript.suffix.lower() in SUBTITLE_SUFFIXES:
            cues = read_subtitles(source.transcript)
            inside = [cue for cue in cues if length is None or cue.start < length]
            if not inside:
                raise AffectusError(
                    "All subtitles begin after the end of the recording",
                    where=source.transcript,
                    got=f"a first start of {cues[0].start:g} s",
                    expected=f"times within the {length:.1f} s of {source.path.name}",
                    remedy="Give the subtitles of this recording, with times from its start",
                )
            if len(inside) < len(cues):
                found.notes.append(
                    f"{len(cues) - len(inside)} of {len(cues)} subtitles of {source.transcript.name} begin after the "
                    f"recording, which has {length:.1f} s, and were left out."
                )
            found.utterances = [_Utterance(cue.start, cue.end, cue.text, cue.speaker) for cue in inside]
            _cut(found, length)
            return
        speech: list[Stretch] = []
        if settings.segments in (Segments.AUTO, Segments.PAUSES):
            heard = speech_stretches(found.probabilities, pause=settings.pause)
            speech = segmentation.split_long(heard, found.probabilities, settings.longest)
            if not speech:
                found.silent = True
                why = "Nobody speaks" if len(found.probabilities) else "There is no sound"
                found.notes.append(f"{why}, so the file is cut into stretches of even length.")
        if not speech:
            length = media.duration or self._length_of_pictures(media)
            longest = length if settings.segments == Segments.WHOLE else settings.longest
            speech = segmentation.even_stretches(length, max(longest, 1e-3))
        found.utterances = [_Utterance(a, b) for a, b in speech]

    def _length_of_pictures(self, media: Media) -> float:
        """Return the time of the last picture; for files that do not say how long they are."""
        last = 0.0
        for frame in video_frames(media.path, fps=1.0):
            last = frame.time + 1.0
        return last

    def _transcribe(self, media: Media, found: _Found, report: Report) -> None:
        """Recognise what has no transcript, and find the times of the words that are given."""
        utterances, recognizes = found.utterances, self.settings.recognizer != NONE and not found.silent
        words: list[list[Word]] = [[] for _ in utterances]
        if recognizes:
            for samples, begin, pieces, share in self._windows(media, found):
                wanted = {i for _, _, i in pieces if utterances[i].text is None}
                if wanted and len(samples):
                    for word in self._recognizer.words(samples, begin):
                        i = _nearest(pieces, (word.start + word.end) / 2)
                        if i in wanted:
                            words[i].append(word)
                for a, b, i in pieces:
                    one = utterances[i]
                    if one.text is not None and (a, b) == (one.start, one.end):
                        low, high = round((a - begin) * RATE), round((b - begin) * RATE)
                        one.words = self._recognizer.align(samples[low:high], one.text.split(), a)
                report("recognizing speech", 0.1 + 0.3 * share)
        speech = found.speech
        for i, one in enumerate(utterances):
            if one.text is None and words[i]:
                one.words = sorted(words[i], key=lambda word: (word.start, word.end))
                one.text = " ".join(word.text for word in one.words)
            elif one.text is not None and one.words is None:
                one.words = alignment.spread(one.text.split(), *one.times, _around(speech, *one.times))
            if one.words:
                one.words = alignment.within_speech(one.words, _around(speech, *one.times))

    def _divide_transcript(self, transcript: Path, found: _Found) -> None:
        """Put the sentences of a transcript without times in place of what was recognised."""
        given = read_transcript(transcript)
        heard = [word for one in found.utterances for word in one.words or ()]
        if not heard:
            raise AffectusError(
                "The transcript cannot be matched with the sound, of which nothing was recognised",
                where=transcript,
                remedy="Use a recogniser (--recognizer tiny.en), or give subtitles, which have times",
            )
        said = [sentence.split() for sentence in given]
        timed = alignment.match([word for sentence in said for word in sentence], heard)
        known = {alignment.plain(word.text) for word in heard}
        missed = sum(alignment.plain(word.text) not in known for word in timed)
        found.notes.append(
            f"{transcript.name} took its times from recognised speech, which lacks {missed} of its {len(timed)} words."
        )
        found.utterances, begin = [], 0
        for sentence in said:
            words = timed[begin : begin + len(sentence)]
            begin += len(words)
            start, end = words[0].start, max(words[-1].end, words[0].start + 0.1)
            found.utterances.append(_Utterance(start, end, " ".join(sentence), words=words))

    def _describe(self, media: Media, found: _Found, report: Report) -> None:
        """Describe the sound of each utterance."""
        rate = self._sound.rate
        parts: list[list[tuple[float, FloatArray]]] = [[] for _ in found.utterances]
        for samples, begin, pieces, share in self._windows(media, found):
            if len(samples):
                values = self._heard(samples)
                for a, b, i in pieces:
                    low = round((a - begin) * rate)
                    part = values[low : max(round((b - begin) * rate), low + 1)]
                    if len(part):
                        parts[i].append((begin + low / rate, part))
            report("describing sound", 0.4 + 0.1 * share)
        for one, own in zip(found.utterances, parts, strict=True):
            if own:
                own.sort(key=lambda part: part[0])
                starts = np.concatenate([begin + np.arange(len(values)) / rate for begin, values in own])
                one.sound = (np.concatenate([values for _, values in own]), starts)

    def _heard(self, samples: FloatArray) -> FloatArray:
        name = self.settings.audio
        return checked(name, called(name, self._sound, samples), (None, self._sound.dim))

    def _windows(
        self, media: Media, found: _Found
    ) -> Iterator[tuple[FloatArray, float, list[tuple[float, float, int]], float]]:
        """Yield stretches of sound of some 30 s: samples, begin, (begin, end, utterance) of its pieces, share done."""
        pieces: list[tuple[float, float, int]] = []
        for i, one in enumerate(found.utterances):
            stretches = [one.times]
            if one.times[1] - one.times[0] > LONGEST_PIECE:
                stretches = segmentation.split_long(stretches, found.probabilities, LONGEST_PIECE - 2)
            pieces += [(a, b, i) for a, b in stretches]
        pieces.sort()
        groups = segmentation.windows([(a, b) for a, b, _ in pieces])
        spans = [(pieces[group[0]][0], max(pieces[k][1] for k in group)) for group in groups]
        for n, (begin, samples) in enumerate(audio_stretches(media.path, spans)):
            yield samples, begin, [pieces[k] for k in groups[n]], (n + 1) / len(groups)

    def _watch(self, media: Media, found: _Found, report: Report) -> None:
        """Read the faces; pictures that cannot be decoded are none."""
        ranges = segmentation.merged([(max(one.times[0] - 0.5, 0.0), one.times[1]) for one in found.utterances], _NEAR)
        last = ranges[-1][1] if ranges else 0.0

        vision, image = self._vision, np.zeros((1, 1, 3), np.uint8)
        what = "reading faces" if vision.faces else "reading pictures"

        def frames() -> Iterator[Frame]:
            nonlocal image
            for begin, end in ranges:
                for frame in video_frames(media.path, self.settings.fps, begin, end, threads=self.threads):
                    found.pictures.append(frame.time)
                    image = frame.image
                    yield frame
                    report(what, 0.5 + 0.4 * min(frame.time / last, 1.0))

        try:
            if vision.faces:
                # the faces of a picture come before the next one is taken, so that it is still at hand
                for faces in self._face_reader.read(frames()):
                    seen = [(face, self._seen(image, face)) for face in faces]
                    found.faces.append([_Face(f.track, f.area, f.mouth, v) for f, v in seen if v is not None])
            else:
                found.views += [self._seen(frame.image, None) for frame in frames()]
        except AffectusError as error:
            if not media.has_audio or found.pictures or "need" in error.what:
                raise
            found.notes.append(f"The pictures are left out: {error}")
        if not found.pictures:
            found.notes.append("No picture could be decoded within the utterances.")
        if vision.faces:
            self._choose_faces(found)
        else:
            self._choose_views(found)

    def _seen(self, image: npt.NDArray[np.uint8], face: Face | None) -> FloatArray | None:
        name = str(self.settings.vision)
        values = called(name, self._vision, image, face)
        return None if values is None else checked(name, values, (self._vision.dim,))

    def _choose_views(self, found: _Found) -> None:
        """Give each utterance the values of its pictures."""
        times = np.array(found.pictures[: len(found.views)])
        for one in found.utterances:
            low, high = np.searchsorted(times, [one.times[0] - 0.5 / self.settings.fps, one.times[1]])
            own = [(float(times[k]), values) for k in range(low, high) if (values := found.views[k]) is not None]
            if own:
                one.vision = (np.stack([values for _, values in own]), np.array([time for time, _ in own]))

    def _choose_faces(self, found: _Found) -> None:
        """Give each utterance the values of one face."""
        times = np.array(found.pictures[: len(found.faces)])
        step = 1 / self.settings.fps
        for one in found.utterances:
            low, high = np.searchsorted(times, [one.times[0] - step / 2, one.times[1]])
            within = [(float(times[k]), face) for k in range(low, high) for face in found.faces[k]]
            speaking = self._speaking(found, low, high) if self.settings.face == SPEAKING else None
            if speaking is not None and one.speaker is None:
                one.speaker = f"face {speaking}"
            one.face = self._face_of(within) if speaking is None else speaking
            own = [(time, face.vector) for time, face in within if face.track == one.face]
            if own:
                one.vision = (np.stack([values for _, values in own]), np.array([time for time, _ in own]))

    def _face_of(self, within: Sequence[tuple[float, _Face]]) -> int | None:
        """Return the track of the face that counts: the one that takes the most of the pictures, or the one named."""
        areas: dict[int, float] = {}
        for _, face in within:
            areas[face.track] = areas.get(face.track, 0.0) + face.area
        if self.settings.face.isdigit():
            return int(self.settings.face) if int(self.settings.face) in areas else None
        return max(areas, key=lambda track: areas[track], default=None)

    @staticmethod
    def _speaking(found: _Found, low: int, high: int) -> int | None:
        """Return the track of the face whose mouth moves with the voice; None if there is none."""
        mouths = [{face.track: face.mouth for face in here} for here in found.faces[low:high]]
        return speaking_face(found.pictures[low:high], mouths, found.probabilities, FRAME_RATE)

    def _tell_speakers(self, source: Source, found: _Found) -> None:
        """Say who speaks, by the turns of a file or of a diariser."""
        if source.turns is not None:
            turns = read_rttm(source.turns)
        elif self.settings.diarizer is not None and len(found.probabilities):
            turns = self._diarizer(source.path)
        else:
            return
        for one in found.utterances:
            one.speaker = speaker_of(*one.times, turns) or one.speaker

    def _corpus(self, source: Source, found: _Found, report: Report) -> Corpus:
        """Put what was found into the form of a corpus."""
        settings, utterances = self.settings, found.utterances
        report("encoding text", 0.9)
        records = [
            {
                "id": one.id or f"{source.video}[{number}]",
                "video": source.video,
                "split": str(Split.TRAIN),
                "start": one.start,
                "end": one.end,
                "speaker": one.speaker,
                "text": one.text or None,
                "words": [word.text for word in one.words] if one.words else (one.text or "").split(),
                "word_starts": [word.start for word in one.words or ()],
                "word_ends": [word.end for word in one.words or ()],
                "face": one.face,
            }
            for number, one in enumerate(utterances)
        ]
        features: dict[str, Ragged] = {}
        cards: dict[str, ModalityCard] = {}
        if settings.text != NONE and any(one.text for one in utterances):
            features[TEXT], cards[TEXT] = self._text(utterances)
        if any(one.sound for one in utterances):
            step = 1 / self._sound.rate
            features[AUDIO] = _timed([one.sound for one in utterances], self._sound.dim, step)
            cards[AUDIO] = ModalityCard(
                dim=self._sound.dim, feature_names=self._sound.columns, rate=self._sound.rate,
                encoder=self._sound.identity,
            )  # fmt: skip
        if any(one.vision for one in utterances):
            vision = self._vision
            features[VISION] = _timed([one.vision for one in utterances], vision.dim, 1 / settings.fps)
            cards[VISION] = ModalityCard(
                dim=vision.dim, feature_names=vision.columns, rate=None, encoder=vision.identity
            )
        card = Card(
            name=source.video, source=source.path.name, language=settings.language, modalities=cards, notes=found.notes
        )
        table = pl.DataFrame(records, infer_schema_length=None, schema_overrides={"face": pl.Int64})
        corpus = build_corpus(table, features, card)
        report("done", 1.0)
        return corpus

    def _text(self, utterances: Sequence[_Utterance]) -> tuple[Ragged, ModalityCard]:
        encoder, level = self._encoder, TextLevel(self.settings.text_level)
        spoken = [one for one in utterances if one.text]
        times: list[npt.NDArray[np.float64]] | None = None
        if level is TextLevel.WORDS:
            said = [[word.text for word in one.words or ()] or str(one.text).split() for one in spoken]
            if isinstance(encoder, TextEncoder):
                encoded = alignment.word_vectors(said, encoder, threads=self.threads)
                pooling = "mean over each word's tokens"
            else:
                vectors = self._read_texts(encoder, [word for words in said for word in words])
                encoded = np.split(vectors, np.cumsum([len(words) for words in said])[:-1])
                pooling = "each word by itself"
            if all(one.words for one in spoken):
                times = [np.array([(w.start, w.end) for w in one.words or ()]).reshape(-1, 2) for one in utterances]
        else:
            texts = [str(one.text) for one in spoken]
            if isinstance(encoder, TextEncoder):
                encoded = encode_texts(texts, encoder, level=Level(level.value), threads=self.threads)
                pooling = "mean over tokens" if level is TextLevel.UTTERANCE else "token states"
            elif level is TextLevel.UTTERANCE:
                encoded, pooling = list(self._read_texts(encoder, texts)[:, None]), "each utterance"
            else:
                raise AffectusError(
                    f"The extractor {self.settings.text!r} gives no vectors of tokens",
                    where="--text-level",
                    expected="utterance or words",
                )
        given = iter(encoded)
        sequences = [next(given) if one.text else None for one in utterances]
        card = ModalityCard(dim=encoder.dim, encoder=f"{encoder.identity}; {pooling}")
        return Ragged.from_sequences(sequences, encoder.dim, times=times), card

    def _read_texts(self, encoder: TextFeatures, texts: Sequence[str]) -> FloatArray:
        return checked(self.settings.text, called(self.settings.text, encoder, texts), (len(texts), encoder.dim))


def _cut(found: _Found, length: float | None) -> None:
    """Let no utterance end after the recording; what is more than a little is told."""
    if length is None:
        return
    late = [one for one in found.utterances if one.times[1] > length + SLACK]
    if late:
        found.notes.append(
            f"{len(late)} of {len(found.utterances)} utterances end more than {SLACK:g} s after the recording, which "
            f"has {length:.1f} s, and were cut to it; the first begins at {late[0].times[0]:g} s."
        )
    for one in found.utterances:
        one.end = min(one.times[1], length)


def _timed(parts: Sequence[Timed | None], width: int, step: float) -> Ragged:
    """Join values whose steps begin at the given times and last ``step`` seconds."""
    return Ragged.from_sequences(
        [None if part is None else part[0] for part in parts],
        width,
        times=[None if part is None else np.stack([part[1], part[1] + step], axis=1) for part in parts],
    )


def _around(speech: Sequence[Stretch], begin: float, end: float) -> Sequence[Stretch]:
    """Return the stretches, in rising order, that a stretch of time and a second about it overlaps."""
    low = bisect.bisect_left(speech, begin - 1.0, key=lambda one: one[1])
    return speech[low : bisect.bisect_right(speech, end + 1.0, key=lambda one: one[0])]


def _nearest(pieces: Sequence[tuple[float, float, int]], moment: float) -> int:
    """Return the utterance whose piece is nearest to a moment."""
    return min(pieces, key=lambda piece: max(piece[0] - moment, moment - piece[1], 0.0))[2]

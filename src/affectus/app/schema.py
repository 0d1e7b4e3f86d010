"""The shapes of what the interface takes and gives."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from affectus.app.pool import Progress
from affectus.app.store import Job, JobKind, State
from affectus.vocabulary import SEVEN_EMOTIONS

JobId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
EmotionName = Literal["anger", "disgust", "fear", "happiness", "sadness", "surprise", "none"]
assert EmotionName.__args__ == SEVEN_EMOTIONS  # type: ignore[attr-defined]


class ErrorOut(BaseModel):
    """Why a request was refused."""

    error: str


class ProgressOut(BaseModel):
    """How far an analysis is: its stage, the share that is done, and the seconds left (null as long as unknown)."""

    stage: str
    share: float
    seconds_left: float | None


class JobOut(BaseModel):
    """An analysis in the list."""

    id: str
    kind: JobKind
    name: str
    state: State
    created: float
    started: float | None
    ended: float | None
    bytes: int | None
    mime: str | None
    error: str | None
    summary: dict[str, Any]
    progress: ProgressOut | None
    ahead: int | None = None
    """How many wait before it."""


class JobsOut(BaseModel):
    """A part of the list, the newest first."""

    analyses: list[JobOut]
    total: int


class StatusOut(BaseModel):
    """What the server is doing, and what it takes."""

    version: str
    model: str
    running: int
    waiting: int
    room: int
    """How many more it would take now."""
    upload_bytes: int
    media_seconds: float
    can_open: bool
    """Whether there are folders in which runs and corpora may be opened."""


class SessionIn(BaseModel):
    """A token."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=500)


class EntryOut(BaseModel):
    """A run, a corpus or a manifest that can be opened."""

    id: str
    kind: Literal["run", "corpus", "manifest"]
    name: str
    about: str
    modalities: list[str]
    splits: list[str]


class ReviewIn(BaseModel):
    """What to judge: a corpus or manifest, by a run (null: by the server's model), on a split (null: on everything)."""

    model_config = ConfigDict(extra="forbid")

    corpus: JobId
    run: JobId | None = None
    split: Literal["train", "valid", "test"] | None = None


class CorrectionIn(BaseModel):
    """What a person says of an utterance: a sentiment, an emotion, or both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "anyOf": [
                {"required": ["sentiment"], "properties": {"sentiment": {"type": "number"}}},
                {"required": ["emotion"], "properties": {"emotion": {"type": "string"}}},
            ]
        },
    )

    utterance: str = Field(max_length=1000)
    sentiment: float | None = Field(default=None, ge=-3, le=3, allow_inf_nan=False)
    emotion: EmotionName | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "CorrectionIn":
        if self.sentiment is None and self.emotion is None:
            raise ValueError("neither a sentiment nor an emotion is given")
        return self


class CorrectionOut(BaseModel):
    """A correction."""

    utterance: str
    sentiment: float | None
    emotion: EmotionName | None
    changed: float


class OpinionOut(BaseModel):
    """What is said of an utterance; null where the model does not tell."""

    intensity: float | None
    polarity: str | None
    polarities: dict[str, float]
    emotion: str | None
    emotions: dict[str, float]


class UtteranceOut(BaseModel):
    """One utterance. ``gold``, ``error`` and ``error_of`` are there for a corpus alone."""

    id: str
    recording: str
    start: float | None
    end: float | None
    speaker: str | None
    text: str | None
    opinion: OpinionOut
    alone: dict[str, OpinionOut]
    present: dict[str, float]
    attention: dict[str, float]
    words: list[tuple[str, float, float]]
    spread: float | None
    disagree: bool
    gold: dict[str, Any] | None = None
    error: float | None = None
    error_of: str | None = None


class ResultOut(BaseModel):
    """An analysis. ``subsets``: the opinions by which modalities are switched on, joined by ``+``."""

    source: str
    utterances: list[UtteranceOut]
    model: str
    duration: float | None
    media: Literal["video", "audio", "text", "corpus"]
    seconds: dict[str, float]
    notes: list[str]
    notice: str
    modalities: list[str]
    subsets: dict[str, list[OpinionOut]] | None = None
    report: bool | None = None
    split: str | None = None


def job_out(job: Job, progress: Progress | None, ahead: int | None = None) -> JobOut:
    """Return an analysis as the interface gives it."""
    return JobOut(
        id=job.id,
        kind=job.kind,
        name=job.name,
        state=job.state,
        created=job.created,
        started=job.started,
        ended=job.ended,
        bytes=job.bytes,
        mime=job.mime,
        error=job.error,
        summary=dict(job.summary),
        progress=None
        if progress is None or job.state is not State.RUNNING
        else ProgressOut(stage=progress.stage, share=progress.share, seconds_left=progress.seconds_left),
        ahead=ahead,
    )

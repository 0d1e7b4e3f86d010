"""The card of a corpus: where it comes from, what its columns mean, and the hash of every file."""

from pydantic import BaseModel, ConfigDict, Field

from affectus.labels import LabelScheme

FORMAT_VERSION = 1


class ModalityCard(BaseModel):
    """What is known of one modality's features."""

    model_config = ConfigDict(extra="forbid")

    dim: int
    feature_names: list[str] | None = None
    rate: float | None = None
    """Steps per second, if constant."""
    encoder: str | None = None
    """What made the features (``minilm``, ``COVAREP``, ``openSMILE``), as far as the source says."""


class Card(BaseModel):
    """``card.json`` of a corpus folder."""

    model_config = ConfigDict(extra="forbid")

    format_version: int = Field(FORMAT_VERSION, strict=True)
    name: str
    source: str = ""
    licence: str = "unknown; ask the source"
    language: str | None = None
    generated: bool = False
    """True if no human ever said any of it: the corpus was made by a program."""
    tokenizer: str | None = None
    """What made the column ``token_ids``: the name of a tokenizer or of its model, or the SHA-256 of its vocabulary."""
    word_aligned: bool = False
    """True if the modalities share one step per word, so that the aligned view is possible."""
    modalities: dict[str, ModalityCard] = Field(default_factory=dict)
    schemes: list[LabelScheme] = Field(default_factory=list)
    counts: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Per split: videos and utterances. Written by affectus."""
    notes: list[str] = Field(default_factory=list)
    """What a reader counted, dropped or repaired, one sentence each."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file of the folder. Written by affectus."""

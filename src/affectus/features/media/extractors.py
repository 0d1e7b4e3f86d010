"""What turns words, sound and pictures into vectors, by name; other packages add theirs.

A third party registers an extractor with :func:`register_extractor` in a module that the entry-point group
``affectus.extractors`` names. From then on ``affectus extract --text``, ``--audio`` and ``--vision`` know its name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError, unknown_name
from affectus.registry import Registry
from affectus.vocabulary import AUDIO, TEXT, VISION

if TYPE_CHECKING:
    from affectus.features.media.faces.tracks import Face

FloatArray = npt.NDArray[np.float32]


class TextFeatures(Protocol):
    """Anything that turns texts into vectors."""

    identity: str
    """Name and, where known, the version."""
    dim: int
    """Number of columns."""

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        """Return (N, dim): a vector for each text, a whole utterance or, with ``--text-level words``, a word."""
        ...


class SoundFeatures(Protocol):
    """Anything that turns sound into frames."""

    identity: str
    """Name and, where known, the version."""
    columns: list[str] | None
    """Names of the columns, where they have any."""
    dim: int
    """Number of columns."""
    rate: float
    """Frames per second."""

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Return (T, dim) of up to 30 s of sound at 16 kHz; frame t begins at ``t / rate`` seconds."""
        ...


class VisionFeatures(Protocol):
    """Anything that turns pictures, or the faces in them, into vectors."""

    identity: str
    """Name and, where known, the version."""
    columns: list[str] | None
    """Names of the columns, where they have any."""
    dim: int
    """Number of columns."""
    faces: bool
    """Whether it describes a face; faces are then found, followed and chosen before. Else the whole picture."""

    def __call__(self, image: npt.NDArray[np.uint8], face: "Face | None") -> FloatArray | None:
        """Return (dim,) of a picture (H, W, 3), RGB; None if it shows nothing. Without faces ``face`` is None."""
        ...


@dataclass(frozen=True)
class ExtractorEntry:
    """A registered extractor.

    Attributes:
        name: as the command line takes it.
        modality: text, audio or vision.
        summary: what its columns are, in one line.
        create: makes it; called with the number of threads that it may use.
        version: rises when the same input gives other values, so that what was cached before is not used.
    """

    name: str
    modality: str
    summary: str
    create: Callable[[int], Any]
    version: str = "1"


EXTRACTORS: Registry[ExtractorEntry] = Registry("extractor")
"""Every extractor by name; other packages add theirs through the entry-point group ``affectus.extractors``."""

Create = Callable[[int], Any]


def register_extractor(name: str, *, modality: str, summary: str, version: str = "1") -> Callable[[Create], Create]:
    """Return a decorator that registers what makes an extractor: a function of the number of threads.

    Args:
        name: as the command line takes it.
        modality: ``text``, ``audio`` or ``vision``; what is made is a :class:`TextFeatures`, :class:`SoundFeatures` or
            :class:`VisionFeatures`.
        summary: what its columns are, in one line.
        version: rises when the same input gives other values.
    """
    if modality not in _OPTIONS:
        raise unknown_name("modality", modality, _OPTIONS, where=f"the extractor {name!r}")

    def decorate(create: Create) -> Create:
        EXTRACTORS.add(name, ExtractorEntry(name, modality, summary, create, version))
        return create

    return decorate


_OPTIONS: Mapping[str, str] = {TEXT: "--text", AUDIO: "--audio", VISION: "--vision"}


def names_of(modality: str) -> list[str]:
    """Return the names of a modality's extractors."""
    return [name for name in EXTRACTORS if EXTRACTORS[name].modality == modality]


def is_extractor(name: str, modality: str) -> bool:
    """Whether a name is that of an extractor of a modality; False for a name that is none.

    Raises:
        AffectusError: it describes another modality.
    """
    if name not in EXTRACTORS:
        return False
    found = EXTRACTORS[name].modality
    if found != modality:
        raise AffectusError(
            f"The extractor {name!r} describes {found}, not {modality}",
            where=_OPTIONS[modality],
            expected="one of: " + ", ".join(names_of(modality)),
        )
    return True


def create_extractor(name: str, *, threads: int = 1) -> Any:
    """Make a registered extractor.

    Raises:
        AffectusError: a package that it needs is absent, or it cannot be made.
    """
    return called(name, EXTRACTORS[name].create, threads)


def called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call an extractor; what goes wrong in a third party's costs the file, not the process.

    Raises:
        AffectusError: it fails.
    """
    try:
        return function(*arguments)
    except (AffectusError, MemoryError):
        raise
    except Exception as error:
        raise AffectusError(
            f"The extractor {name!r} failed", got=f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        ) from error


def checked(name: str, values: Any, shape: tuple[int | None, ...]) -> FloatArray:
    """Return what an extractor gave as numbers of 32 bits.

    Args:
        name: of the extractor.
        values: what it gave.
        shape: that it has to have; None where any length will do.

    Raises:
        AffectusError: it is no array of that shape, or holds what is no number.
    """
    try:
        found: FloatArray = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise AffectusError(f"The extractor {name!r} gave no numbers", got=type(values).__name__) from None
    expected = " x ".join("any" if length is None else str(length) for length in shape)
    if len(found.shape) != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, found.shape, strict=True)
    ):
        raise AffectusError(
            f"The extractor {name!r} gave values of another shape than it says",
            got=" x ".join(map(str, found.shape)) or "one number",
            expected=expected,
        )
    if not np.isfinite(found).all():
        raise AffectusError(f"The extractor {name!r} gave NaN or infinite values", expected="numbers")
    return found


class Faces:
    """52 blendshapes, proxies of 17 action units, head pose and gaze of a face."""

    faces = True

    def __init__(self) -> None:
        from affectus.features.media.faces import VISION_COLUMNS

        self.identity = "affectus faces: face_landmarker"
        self.columns: list[str] | None = list(VISION_COLUMNS)
        self.dim = len(VISION_COLUMNS)

    def __call__(self, image: npt.NDArray[np.uint8], face: "Face | None") -> FloatArray | None:
        """Return (74,) of the face."""
        from affectus.features.media.faces.tracks import vector

        return None if face is None else vector(face)


@register_extractor("minilm", modality=TEXT, summary="all-MiniLM-L6-v2, 384 columns (packaged)")
def _minilm(threads: int) -> Any:
    from affectus.features.encoders import load_encoder

    return load_encoder("minilm")


@register_extractor("sims", modality=AUDIO, summary="the 33 columns of CH-SIMS, energy and voicing")
def _sims(threads: int) -> SoundFeatures:
    from affectus.features.media.sound import Sims

    return Sims()


@register_extractor("egemaps", modality=AUDIO, summary="25 low-level descriptors of eGeMAPSv02, by openSMILE (extra)")
def _egemaps(threads: int) -> SoundFeatures:
    from affectus.features.media.sound import Egemaps

    return Egemaps()


@register_extractor("praat", modality=AUDIO, summary="9 measures of pitch, loudness and formants, by Praat (extra)")
def _praat(threads: int) -> SoundFeatures:
    from affectus.features.media.sound import Praat

    return Praat()


@register_extractor(
    "faces", modality=VISION, summary="74 columns: blendshapes, proxies of action units, head pose and gaze of a face"
)
def _faces(threads: int) -> VisionFeatures:
    return Faces()

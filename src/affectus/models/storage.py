"""Weights on disk: safetensors, never a pickle."""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file

from affectus.errors import AffectusError
from affectus.files import atomic_path
from affectus.models.base import AnyModel, Model


def save_weights(model: AnyModel, path: Path) -> None:
    """Write all that a model has learned."""
    tensors = model.state_dict() if isinstance(model, Model) else model.arrays()
    with atomic_path(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)


def load_weights(model: AnyModel, path: Path) -> None:
    """Read what :func:`save_weights` wrote.

    Raises:
        AffectusError: the file is absent, damaged, or belongs to another model.
    """
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except FileNotFoundError:
        raise AffectusError("There are no weights", where=path, remedy="Train the model again") from None
    except OSError as error:
        raise AffectusError("Could not read", where=path, got=error.strerror or error) from None
    except SafetensorError as error:
        raise AffectusError("Not a whole safetensors file", where=path, got=error) from None
    try:
        if isinstance(model, Model):
            model.load_state_dict(tensors)
        else:
            model.load_arrays(tensors)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = f"no array {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise AffectusError("The weights belong to another model", where=path, got=reason) from None


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that a file of a run holds.

    Raises:
        AffectusError: the file is absent, cannot be read or is damaged.
    """
    try:
        return dict(load_arrays(path))
    except FileNotFoundError:
        raise AffectusError("There is no file", where=path, remedy="Train the run again") from None
    except OSError as error:
        raise AffectusError("Could not read", where=path, got=error.strerror or error) from None
    except SafetensorError as error:
        raise AffectusError("Not a whole safetensors file", where=path, got=error) from None

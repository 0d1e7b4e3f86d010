"""Where a run is trained."""

import torch

from affectus.errors import AffectusError
from affectus.vocabulary import check_device


def choose_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda`` means here.

    Raises:
        AffectusError: it is none of these, or a GPU is asked for where PyTorch finds none.
    """
    check_device(device)
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        built = torch.version.cuda is not None
        raise AffectusError(
            "PyTorch finds no GPU here",
            where="--device cuda",
            got=f"PyTorch {torch.__version__}, built {'with' if built else 'without'} CUDA",
            remedy="Use --device cpu" + ("" if built else ", or install a PyTorch with CUDA"),
        )
    return torch.device("cuda" if there and device != "cpu" else "cpu")

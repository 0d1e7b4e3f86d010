"""Where a run is trained."""

import torch

from affectus.errors import AffectusError, unknown_name

DEVICES = ("auto", "cpu", "cuda")


def choose_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda`` means here.

    Raises:
        AffectusError: it is none of these, or a GPU is asked for where PyTorch finds none.
    """
    if device not in DEVICES:
        raise unknown_name("device", str(device), DEVICES)
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

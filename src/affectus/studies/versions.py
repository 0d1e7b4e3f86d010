"""What a study was made with."""

import importlib.metadata
import platform

import affectus
from affectus.nn import kernels
from affectus.training.run import PACKAGES


def versions() -> dict[str, str]:
    """Return the versions of affectus, Python and the packages on which figures depend, and the kernels."""
    found = {"affectus": affectus.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES} | {"kernels": kernels.in_use()}

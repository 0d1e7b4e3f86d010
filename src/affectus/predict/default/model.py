"""The model that ships: its weights, its card, and how it reads a corpus."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from affectus.corpus import Corpus, Ragged
from affectus.errors import AffectusError
from affectus.features.encoders import TextEncoder, load_encoder
from affectus.features.media.acoustic import AUDIO_COLUMNS
from affectus.features.media.faces.action_units import VISION_COLUMNS
from affectus.files import read_json, sha256
from affectus.nn.low_rank import merge_low_rank
from affectus.predict.default.inputs import (
    AUDIO_FUNCTIONALS,
    VISION_FUNCTIONALS,
    audio_functionals,
    beside_others,
    resting_units,
    vision_functionals,
)
from affectus.predict.default.language import is_foreign
from affectus.predict.default.network import CLIP, POLARITIES, Evidence, OpinionNetwork
from affectus.predict.results import Opinion, Utterance
from affectus.threads import torch_threads
from affectus.vocabulary import AUDIO, SEVEN_EMOTIONS, SIX_EMOTIONS, TEXT, VISION

WEIGHTS, CARD = "weights.safetensors", "card.json"
NAME = "affectus-default"
TOKENS = 128
"""Longer transcripts are read in pieces of so many tokens."""
TEXTS = 16
"""Texts, or pieces of them, that are encoded at once."""
WINDOW = 64
"""Utterances that are read at once; attention does not look beyond."""
_READS = {AUDIO: AUDIO_COLUMNS, VISION: VISION_COLUMNS}


def packaged_file(name: str) -> Path:
    """Return a file of the shipped model.

    Raises:
        AffectusError: it is absent.
    """
    place = files("affectus.predict.default").joinpath(name)
    with as_file(place) as path:
        if not path.is_file():
            raise AffectusError("The model that ships is not there", where=path, remedy="Install affectus afresh")
        return path


def default_card() -> dict[str, Any]:
    """Return the card of the shipped model: data, licences, figures, limits."""
    card: dict[str, Any] = read_json(packaged_file(CARD))
    return card


@dataclass(frozen=True)
class _Inputs:
    """What the network reads of one recording: per modality (U, dim) and (U,) whether it is there; (U,) speakers."""

    features: dict[str, Tensor]
    present: dict[str, Tensor]
    speakers: Tensor


class DefaultModel:
    """The model that ships.

    Args:
        network: trained.
        encoder: of texts, with what was learned merged in; None reads no text.
        scaling: per modality mean and deviation of its features.
        weights: per head and modality, how much its evidence counts (calibration).
        identity: name and hash.
    """

    def __init__(
        self,
        network: OpinionNetwork,
        encoder: TextEncoder | None,
        scaling: Mapping[str, tuple[Tensor, Tensor]],
        weights: Mapping[str, Mapping[str, float]],
        identity: str,
    ) -> None:
        self.network, self.encoder, self.scaling = network.eval(), encoder, scaling
        self.weights, self.identity = weights, identity

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that it reads."""
        return tuple(self.network.dims)

    def predict(
        self, corpus: Corpus, *, threads: int = 1, progress: Callable[[int, int], None] | None = None
    ) -> tuple[Utterance, ...]:
        """Tell every utterance of a corpus, all splits, in the order of its table.

        Args:
            corpus: with transcripts, with the sound and face features of ``affectus extract``, or with some of them.
            threads: of torch.
            progress: told how many utterances are done, and of how many.

        Raises:
            AffectusError: the corpus has sound or face features of another kind.
        """
        self.check(corpus)
        rows = corpus.recordings()
        told: list[Utterance] = []
        with torch.inference_mode(), torch_threads(threads):
            for recording in rows:
                resting = self._resting(corpus, recording)
                for start in range(0, len(recording), WINDOW):
                    part = recording[start : start + WINDOW]
                    told += self._tell(corpus, part, self._inputs(corpus, part, resting))
                    if progress:
                        progress(len(told), len(corpus))
        return tuple(told)

    def notes(self, corpus: Corpus) -> list[str]:
        """What a reader of its predictions has to know."""
        if self.encoder is not None and is_foreign(corpus.table["text"].to_list(), self.encoder.tokenizer):
            return [
                "The words do not look like English, which alone the model reads: what it says of them means nothing."
            ]
        return []

    def check(self, corpus: Corpus) -> None:
        """Check that the features of a corpus are those that the model reads.

        Raises:
            AffectusError: names what does not fit.
        """
        for name, columns in _READS.items():
            if name not in corpus.modalities:
                continue
            card = corpus.card.modalities.get(name)
            names = card.feature_names if card else None
            if corpus.dims[name] != len(columns) or (names is not None and tuple(names) != columns):
                raise AffectusError(
                    f"The modality {name!r} of the corpus {corpus.name!r} is not what the shipped model reads",
                    got=f"{corpus.dims[name]} columns",
                    expected=f"the {len(columns)} columns of `affectus extract`",
                    remedy="Extract the features with `affectus extract`, or give a run trained on these features",
                )

    def _resting(self, corpus: Corpus, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
        if VISION not in corpus.features:
            return None
        ragged = corpus.features[VISION]
        frames = ragged.values[ragged.step_index(rows)]
        return resting_units(frames) if len(frames) else None

    def _inputs(self, corpus: Corpus, rows: npt.NDArray[np.int64], resting: npt.NDArray[np.float32] | None) -> _Inputs:
        features, present = {}, {}
        texts = [(text or "").strip() for text in corpus.table["text"][rows].to_list()]
        if self.encoder is not None and any(texts):
            features[TEXT] = self._encode(texts)
            present[TEXT] = torch.tensor([bool(text) for text in texts])
        readers: dict[str, Callable[[npt.NDArray[np.floating]], npt.NDArray[np.float32] | None]] = {
            AUDIO: audio_functionals,
            VISION: lambda frames: vision_functionals(frames, resting),
        }
        named = corpus.table["speaker"][rows].to_list()
        numbers = {name: i for i, name in enumerate(dict.fromkeys(named))}
        # where nobody is named, all is taken to be one person's
        speakers = torch.tensor([numbers[name] for name in named])
        for name, read in readers.items():
            if name in self.network.dims and name in corpus.features:
                found = _functionals(corpus.features[name], rows, read)
                there = torch.tensor([one is not None for one in found])
                if there.any():
                    mean, deviation = self.scaling[name]
                    values = [torch.from_numpy(one) if one is not None else mean for one in found]
                    scaled = ((torch.stack(values) - mean) / deviation).clamp(-CLIP, CLIP)
                    features[name], present[name] = beside_others(scaled, there, speakers), there
        return _Inputs(features, present, speakers)

    def _encode(self, texts: Sequence[str]) -> Tensor:
        """(U, 384); zero where there is no text."""
        assert self.encoder is not None
        found = torch.zeros(len(texts), self.encoder.dim)
        order = sorted((i for i, text in enumerate(texts) if text), key=lambda i: len(texts[i]))
        for start in range(0, len(order), TEXTS):
            chosen = order[start : start + TEXTS]
            tokens = self.encoder.tokenizer(
                [texts[i] for i in chosen],
                padding=True,
                truncation=True,
                max_length=TOKENS,
                return_overflowing_tokens=True,
                return_tensors="pt",
            )
            owners = tokens.pop("overflow_to_sample_mapping")
            sums = torch.zeros(len(chosen), self.encoder.dim)
            counts = torch.zeros(len(chosen), 1)
            for some in range(0, len(owners), TEXTS):
                piece = {name: x[some : some + TEXTS] for name, x in tokens.items()}
                states = self.encoder.model(**piece).last_hidden_state
                mask = piece["attention_mask"][..., None].float()
                sums.index_add_(0, owners[some : some + TEXTS], (states * mask).sum(1))
                counts.index_add_(0, owners[some : some + TEXTS], mask.sum(1))
            found[chosen] = sums / counts
        return found

    def _tell(self, corpus: Corpus, rows: npt.NDArray[np.int64], inputs: _Inputs) -> list[Utterance]:
        table = corpus.table[rows]
        ids = table["id"].to_list()
        if inputs.features:
            evidence = self.network.evidence(
                {name: x[None] for name, x in inputs.features.items()},
                {name: x[None] for name, x in inputs.present.items()},
                inputs.speakers[None],
            )
            parts, attention = evidence.parts, evidence.attention[0].numpy()
        else:
            evidence, parts, attention = None, {}, np.zeros((len(rows), len(rows)), np.float32)
        fused = self._said(parts, len(rows))
        alone = {name: self._said({name: part}, len(rows)) for name, part in parts.items()}
        marked = self._marked(evidence)
        words = [_words(line) for line in table.to_dicts()]
        told = []
        for i, name in enumerate(ids):
            there = [modality for modality in parts if bool(inputs.present[modality][i])]
            present = marked[i].tolist() if marked is not None and TEXT in there else []
            told.append(
                Utterance(
                    id=name,
                    recording=table["video"][i],
                    start=table["start"][i],
                    end=table["end"][i],
                    speaker=table["speaker"][i],
                    text=(table["text"][i] or "").strip() or None,
                    opinion=_opinion(fused, i) if there else Opinion(),
                    alone={modality: _opinion(alone[modality], i) for modality in there},
                    present=dict(zip(SIX_EMOTIONS, present, strict=False)),
                    attention={ids[j]: float(w) for j, w in enumerate(attention[i]) if w > 0.005},
                    words=words[i],
                )
            )
        return told

    def _marked(self, evidence: Evidence | None) -> Tensor | None:
        """(U, 6): from the words alone, how likely annotators would mark each emotion; None without words."""
        if evidence is None or evidence.around is None:
            return None
        logits = self.network.heads["present"](evidence.parts[TEXT][0]) + self.network.around(evidence.around[0])
        marked: Tensor = self.network.priors["present"][-1] + self.weights["present"].get(TEXT, 1.0) * logits
        return marked.sigmoid()

    def _said(self, parts: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        """Per head (U, size): prior and the weighted evidence of the given modalities."""
        said = {}
        for name, head in self.network.heads.items():
            logits = self.network.priors[name][-1].expand(count, -1)
            for modality, part in parts.items():
                logits = logits + self.weights[name].get(modality, 1.0) * head(part[0])
            said[name] = 3 * torch.tanh(logits / 3) if name == "intensity" else logits
        return said


def _opinion(said: Mapping[str, Tensor], i: int) -> Opinion:
    polarities = dict(zip(POLARITIES, said["polarity"][i].softmax(-1).tolist(), strict=True))
    emotions = dict(zip(SEVEN_EMOTIONS, said["emotions"][i].softmax(-1).tolist(), strict=True))
    return Opinion(
        intensity=float(said["intensity"][i, 0]),
        polarity=max(polarities, key=lambda name: polarities[name]),
        polarities=polarities,
        emotion=max(emotions, key=lambda name: emotions[name]),
        emotions=emotions,
    )


def _functionals(
    ragged: Ragged,
    rows: npt.NDArray[np.int64],
    read: Callable[[npt.NDArray[np.floating]], npt.NDArray[np.float32] | None],
) -> list[npt.NDArray[np.float32] | None]:
    return [read(ragged[int(row)]) if ragged.lengths[row] else None for row in rows]


def _words(line: Mapping[str, Any]) -> tuple[tuple[str, float, float], ...]:
    words, starts, ends = (line.get(name) or () for name in ("words", "word_starts", "word_ends"))
    if not len(words) == len(starts) == len(ends):
        return ()
    return tuple((w, a, b) for w, a, b in zip(words, starts, ends, strict=True) if a is not None and b is not None)


@functools.lru_cache(maxsize=1)
def load_default() -> DefaultModel:
    """Load the model that ships; the packages of the extra ``text`` are needed for transcripts.

    Raises:
        AffectusError: its files are absent or damaged, or the text encoder is absent.
    """
    path, card = packaged_file(WEIGHTS), default_card()
    digest = sha256(path)
    if digest != card.get("sha256"):
        raise AffectusError(
            "The weights of the shipped model are not those of its card",
            where=path,
            got=f"SHA-256 {digest}",
            expected=str(card.get("sha256")),
            remedy="Install affectus afresh",
        )
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise AffectusError("The weights of the shipped model are damaged", where=path, got=str(error)) from None
    encoder = load_encoder()
    merge_low_rank(encoder.model, _below(tensors, "adapter."))
    network = OpinionNetwork(
        {TEXT: encoder.dim, AUDIO: len(AUDIO_FUNCTIONALS), VISION: len(VISION_FUNCTIONALS)}, widths=card["widths"]
    )
    network.load_state_dict(_below(tensors, "network."))
    scaling = {name: (tensors[f"scaling.{name}.mean"], tensors[f"scaling.{name}.deviation"]) for name in _READS}
    return DefaultModel(network, encoder, scaling, card["evidence_weights"], f"{NAME}, sha256 {digest[:16]}")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

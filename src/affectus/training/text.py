"""A run's text encoder: what it makes of any corpus, and the layers of it that are trained.

The layers that are not trained always say the same of a text, so they say it once: before training they turn every
token into the vector that the first trained layer reads, and each epoch of each seed starts from there. A run keeps the
trained layers' weights alone; the others are found by the encoder's name, and their hash must be the same.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from affectus.batches import Loader, Scale, Scaler, TokenCorpus, fit_scaler
from affectus.corpus import Corpus, ModalityCard, Ragged
from affectus.errors import AffectusError
from affectus.features.encoders import ALL, TextEncoder, load_encoder, load_form, save_form, trained_part
from affectus.features.tokens import Progress, TokenIds, run_layers, tokenize
from affectus.files import atomic_path
from affectus.models import Model
from affectus.models.base import AnyModel
from affectus.models.with_text import TextModel
from affectus.nn.text import TextLayers
from affectus.training.config import RunConfig, TrainingSettings
from affectus.training.device import choose_device
from affectus.vocabulary import TEXT, Split, View

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
FORM, STATES = "text", "text-states.npy"
"""In a run folder: the encoder's configuration and tokenizer; and, during training, what its frozen layers say."""
IN_MEMORY = 1 << 30
"""Bytes of such states that are kept in memory; more are kept on disk and read through a memory map."""
SCALING_UTTERANCES = 4096
"""From so many training utterances, evenly chosen, the scale of a trained encoder's vectors is fitted."""


class TextIdentity(BaseModel):
    """Which text encoder a run was trained with, in ``run.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    """SHA-256 of the weights before training."""
    vocabulary: str
    """SHA-256 of the tokenizer's vocabulary."""
    layers: int
    dim: int


@dataclass(frozen=True, eq=False)
class RunText:
    """The text encoder of a run.

    Attributes:
        encoder: as it was before training.
        settings: of the run.
        identity: of the encoder.
    """

    encoder: TextEncoder
    settings: TrainingSettings
    identity: TextIdentity

    @property
    def trained(self) -> int:
        """How many layers are trained; 0 for none, -1 for all and the embeddings."""
        return self.settings.text_layers

    def tokenize(self, corpus: Corpus, config: RunConfig) -> TokenIds:
        """Return the token ids of a corpus, with each token's word in the aligned view.

        Raises:
            AffectusError: the corpus has no transcripts, or no words to align with.
        """
        by_word = config.view is View.ALIGNED
        if by_word:
            # only what is used beside the text must be aligned with it
            kept = {name: ragged for name, ragged in corpus.features.items() if name in config.modalities}
            corpus = Corpus(corpus.table, kept, corpus.card)
        return tokenize(corpus, self.encoder, max_tokens=self.settings.text_max_tokens, by_word=by_word)

    def encode(
        self,
        corpus: Corpus,
        config: RunConfig,
        rows: IntArray,
        *,
        store: Path | None = None,
        share: bool = False,
        progress: Progress | None = None,
    ) -> Corpus:
        """Return a corpus with the text as the run's models read it, for some of its rows.

        Args:
            corpus: with transcripts.
            config: of the run.
            rows: which to encode, in rising order; the text of the others is missing.
            store: a file for what the frozen layers say, taken if it is there; None for a temporary one.
            share: write the file in any case, not only if it is too much for the memory.
            progress: told how many texts the frozen layers have read.

        Returns:
            A corpus with vectors as its modality ``text`` if the encoder is frozen, else a :class:`TokenCorpus`.
        """
        tokens = self.tokenize(corpus, config)
        ids, words = _only(tokens, rows)
        if self.trained == ALL:
            states = ids
        else:
            depth = self.encoder.layers - self.trained
            states = Ragged(_states(ids, rows, self.encoder, depth, store, share, progress), ids.offsets)
        counts = tokens.word_counts
        if counts is not None:
            counts = np.where(np.isin(np.arange(len(counts)), rows), counts, 0)
        if self.trained:
            others = {name: ragged for name, ragged in corpus.features.items() if name != TEXT}
            return TokenCorpus(corpus.table, others, corpus.card, states, self.encoder.dim, words, counts)
        if words is not None and counts is not None:
            states = _word_means(states, words, counts)
        card = ModalityCard(dim=self.encoder.dim, encoder=self.encoder.identity)
        return corpus.with_features(TEXT, states, card)

    def fit_scaler(self, corpus: Corpus, config: RunConfig) -> Scaler:
        """Fit the scaling on train; of the text, on what the encoder says before it is trained.

        Args:
            corpus: from :meth:`encode`.
            config: of the run.
        """
        scale = self.settings.scale
        if not self.trained:
            return fit_scaler(corpus, config.view, config.modalities, scale)
        rest = fit_scaler(corpus, config.view, [name for name in config.modalities if name != TEXT], scale)
        vectors = np.zeros((0, self.encoder.dim), np.float32)
        if scale is not Scale.NONE:
            vectors = torch.cat(list(self._sample(corpus, config))).numpy()
        text = Scaler.fit({TEXT: vectors}, scale)
        return Scaler({**rest.shift, **text.shift}, {**rest.factor, **text.factor})

    def _sample(self, corpus: Corpus, config: RunConfig) -> Iterator[Tensor]:
        """Yield the vectors (n, dim) of a part of train, as the encoder makes them before it is trained."""
        none = Scaler({}, {})
        loader = Loader(corpus, Split.TRAIN, config.view, [TEXT], none, batch_size=config.training.batch_size)
        every = -(-len(loader.rows) // SCALING_UTTERANCES)
        layers, device = self._layers().eval(), self.encoder.model.device
        with torch.inference_mode():
            for batch in islice(loader, 0, None, every):
                encoded = TextModel.vectors(layers.to(device), batch.to(device))
                yield encoded[batch.masks[TEXT].to(device)].cpu()

    def before(self, model: AnyModel, scaler: Scaler | None = None) -> AnyModel:
        """Return a model with the trained layers before it; the model itself if none are trained.

        Args:
            model: reads vectors.
            scaler: from :meth:`fit_scaler`; None if the weights are loaded afterwards.
        """
        if not self.trained or not isinstance(model, Model):
            return model
        return TextModel(
            model,
            self._layers(scaler),
            learning_rate=self.settings.text_learning_rate,
            weight_decay=self.settings.text_weight_decay,
        )

    def _layers(self, scaler: Scaler | None = None) -> TextLayers:
        given = {} if scaler is None else {"shift": scaler.shift[TEXT], "factor": scaler.factor[TEXT]}
        return TextLayers(
            trained_part(self.encoder, self.trained).cpu(),
            self.encoder.dim,
            ids=self.trained == ALL,
            **{name: torch.from_numpy(np.asarray(values)) for name, values in given.items()},
        )

    def save(self, folder: Path) -> None:
        """Write the encoder's form, without weights, into a run folder."""
        if not (folder / FORM / "config.json").is_file():
            with atomic_path(folder / FORM) as temporary:
                save_form(self.encoder, temporary)


def open_text(settings: TrainingSettings, device: str = "cpu", *, expected: TextIdentity | None = None) -> RunText:
    """Load the text encoder that a run's settings name.

    Args:
        settings: with ``text_encoder``.
        device: ``auto``, ``cpu`` or ``cuda``; where what is not trained is computed.
        expected: what the run was begun with.

    Raises:
        AffectusError: there is no such encoder, it is another one than expected, or it has too few layers.
    """
    assert settings.text_encoder is not None
    encoder = load_encoder(settings.text_encoder, device=choose_device(device).type)
    found = TextIdentity(
        weights=encoder.weights_hash(),
        vocabulary=encoder.vocabulary_hash(),
        layers=encoder.layers,
        dim=encoder.dim,
    )
    if expected is not None and found != expected:
        part = next(name for name, value in expected if value != getattr(found, name))
        raise AffectusError(
            f"The text encoder {settings.text_encoder!r} is not the one that the run was trained with",
            got=f"{part} {getattr(found, part)}",
            expected=str(getattr(expected, part)),
            remedy="Put the encoder back under its name, or train the run again",
        )
    if settings.text_layers:
        trained_part(encoder, settings.text_layers)  # whether it can be cut is found before anything is written
    return RunText(encoder, settings, found)


def reopen_text(settings: TrainingSettings, identity: TextIdentity, folder: Path) -> RunText:
    """Return the text encoder of a trained run, to predict with it.

    Of an encoder that was trained as a whole the run folder has all; any other's frozen layers are loaded by name.

    Raises:
        AffectusError: the encoder is gone or is another one.
    """
    if settings.text_layers != ALL:
        return open_text(settings, expected=identity)
    return RunText(load_form(str(settings.text_encoder), folder / FORM), settings, identity)


def _only(tokens: TokenIds, rows: IntArray) -> tuple[Ragged, IntArray | None]:
    """Return the ids and words of some rows; the others have no step."""
    lengths = np.zeros(len(tokens.ids), np.int64)
    lengths[rows] = tokens.ids.lengths[rows]
    index = tokens.ids.step_index(rows)
    ids = Ragged(tokens.ids.values[index], np.concatenate([[0], np.cumsum(lengths)]))
    return ids, None if tokens.words is None else tokens.words[index]


def _states(
    ids: Ragged,
    rows: IntArray,
    encoder: TextEncoder,
    depth: int,
    store: Path | None,
    share: bool,
    progress: Progress | None = None,
) -> FloatArray:
    """Return (steps, dim) what the first ``depth`` layers say of each token."""
    shape = (len(ids.values), encoder.dim)
    if store is not None and store.is_file():
        stored: FloatArray = np.load(store, mmap_mode="r", allow_pickle=False)
        return stored
    threads = torch.get_num_threads()
    large = shape[0] * shape[1] * 4 > IN_MEMORY
    if store is not None and (share or large):
        with atomic_path(store) as temporary:
            written = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            run_layers(ids, rows, encoder, depth=depth, out=written, threads=threads, progress=progress)
            written.flush()
        return _states(ids, rows, encoder, depth, store, share)
    values: Any
    if large:
        with tempfile.TemporaryFile() as stream:
            # the map keeps the file, which is gone when the map is
            values = np.memmap(stream, np.float32, "w+", shape=shape)
    else:
        values = np.empty(shape, np.float32)
    run_layers(ids, rows, encoder, depth=depth, out=values, threads=threads, progress=progress)
    return values  # type: ignore[no-any-return]


def _word_means(states: Ragged, words: IntArray, counts: IntArray) -> Ragged:
    """Average the vectors of each word's tokens; a word without one gives zeros, which count as not measured."""
    # scipy takes a second to import, and a run without a text encoder does without
    from scipy.sparse import csr_array

    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    owner = np.repeat(offsets[:-1], states.lengths) + words
    real = words >= 0
    tokens = np.bincount(owner[real], minlength=int(offsets[-1]))
    shape = (len(tokens), len(words))
    summing = csr_array((np.ones(int(real.sum()), np.float32), (owner[real], np.flatnonzero(real))), shape=shape)
    sums: FloatArray = summing @ states.values
    return Ragged(sums / np.maximum(tokens, 1).astype(np.float32)[:, None], offsets)

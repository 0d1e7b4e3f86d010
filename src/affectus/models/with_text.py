"""Any model with a text encoder before it that is trained too."""

from dataclasses import replace

import torch
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Model, ModelOutput, ParameterGroup, Stage
from affectus.nn.masking import zero_masked
from affectus.nn.text import TextLayers, word_means
from affectus.vocabulary import TEXT, View

GROUP = "text"
"""The encoder's parameter group; its biases and normalisations, which do not decay, are ``text.plain``."""


class TextModel(Model):
    """A model that gets its text as tokens: an encoder makes vectors of them, the model does the rest.

    Contextual: one vector per utterance, the mean over its tokens. Unaligned: one per token. Aligned: one per word, the
    mean over its tokens. A missing text stays missing.

    Args:
        model: sees the text as vectors; its ``inputs`` name their width.
        encoder: the trained layers.
        learning_rate: of the encoder; None for the run's.
        weight_decay: of the encoder's matrices; None for the run's.
    """

    def __init__(
        self,
        model: Model,
        encoder: TextLayers,
        *,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(inputs=model.inputs, tasks=model.tasks)
        self.model, self.encoder = model, encoder
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self._without = {part.name for stage in model.stages() for part in stage.passes if not part.trains_text}

    def encode(self, batch: Batch) -> Batch:
        """Return the batch with vectors in place of tokens.

        Raises:
            AffectusError: the batch brings no tokens.
        """
        features = {TEXT: self.vectors(self.encoder, batch), **batch.features}
        return replace(batch, features={name: features[name] for name in batch.masks}, tokens=None)

    @staticmethod
    def vectors(encoder: TextLayers, batch: Batch) -> Tensor:
        """Return the text's vectors: (B, U, dim), (B, L, dim) or (B, W, dim) as the view wants.

        Raises:
            AffectusError: the batch brings no tokens.
        """
        tokens = batch.tokens
        if tokens is None:
            raise AffectusError("The model reads text as tokens, but the batch brings none")
        here = batch.masks[TEXT]
        if batch.view is View.CONTEXTUAL:
            text = encoder(tokens.states, tokens.mask & (here & batch.mask).unsqueeze(-1), pool=True)
        elif tokens.words is None:
            text = encoder(tokens.states, tokens.mask & here, pool=False)
        else:
            spoken = tokens.mask & here.any(dim=1, keepdim=True)
            text = word_means(encoder(tokens.states, spoken, pool=False), tokens.words, here.shape[1])
        return zero_masked(text, here)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; ``read`` of the output is the batch as the model saw it."""
        # in a stage that learns nothing from the text the encoder stands still: no dropout, no gradient
        learns = self.stage not in self._without
        self.encoder.train(self.training and learns)
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            encoded = self.encode(batch)
        output: ModelOutput = self.model(encoded)
        return replace(output, read=encoded)

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the model's losses, computed from the batch that it saw."""
        return self.model.losses(output, batch if output.read is None else output.read)

    def stages(self) -> list[Stage]:
        """Return the model's stages; those that learn from the text train the encoder as well."""
        learning = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        groups = {
            GROUP: ParameterGroup([p for p in learning if p.ndim > 1], self.learning_rate, self.weight_decay),
            f"{GROUP}.plain": ParameterGroup([p for p in learning if p.ndim <= 1], self.learning_rate, 0.0),
        }
        return [
            replace(stage, groups={**stage.groups, **groups}) if stage.trains_text else stage
            for stage in self.model.stages()
        ]

    @property
    def stage(self) -> str:
        """Name of the stage that is being trained, which is the model's."""
        return self.model.stage

    @stage.setter
    def stage(self, name: str) -> None:
        if "model" in self._modules:  # the base class sets it before there is a model
            self.model.stage = name

    def on_batch_end(self, output: ModelOutput, batch: Batch) -> None:
        """Let the model remember what it remembers, of the batch that it saw."""
        self.model.on_batch_end(output, batch if output.read is None else output.read)

    def on_epoch_end(self, epoch: int) -> None:
        """Do what the model does between epochs."""
        self.model.on_epoch_end(epoch)

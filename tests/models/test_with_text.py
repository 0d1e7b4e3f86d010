"""A model behind a text encoder keeps the contract that every model keeps."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from affectus.batches import Batch, Tokens
from affectus.errors import AffectusError
from affectus.features.encoders import ALL, load_encoder, trained_part
from affectus.models import MODELS, Model, ModelOutput, ParameterGroup, Stage
from affectus.models.base import check_inputs
from affectus.models.storage import load_weights, save_weights
from affectus.models.with_text import TextModel
from affectus.nn.masking import masked_mean
from affectus.nn.text import TextLayers
from affectus.objectives import Task
from affectus.testing import make_batch, make_tasks
from affectus.vocabulary import View

pytest.importorskip("transformers", reason="needs the extra affectus[text]")

DIM, LONGEST = 16, 6
DIMS = {"text": DIM, "audio": 5}
VIEWS = list(View)


class Sequences(Model):
    """A model of the sequence views, and a place to see what it was given."""

    def __init__(self, *, inputs: Mapping[str, int], tasks: Sequence[Task]) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        self.heads = torch.nn.ModuleDict({t.name: torch.nn.Linear(sum(inputs.values()), t.outputs) for t in tasks})

    def forward(self, batch: Batch) -> ModelOutput:
        parts = [masked_mean(batch.features[name], batch.masks[name]) for name in self.inputs]
        z = torch.cat(parts, dim=-1)
        return ModelOutput({name: head(z) for name, head in self.heads.items()})

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        # a reconstruction's target is what the model read
        return {**super().losses(output, batch), "size": batch.features["text"].square().mean()}


def build(tiny_encoder: Path, view: View, layers: int = 2, name: str = "mtmm_es") -> TextModel:
    encoder = load_encoder(str(tiny_encoder))
    torch.manual_seed(0)
    tasks = make_tasks("polarity", "intensity")
    inner = (
        MODELS[name].create(DIMS, tasks, {"hidden": 8, "dense": 8})
        if view is View.CONTEXTUAL
        else Sequences(inputs=DIMS, tasks=tasks)
    )
    assert isinstance(inner, Model)
    text = TextLayers(trained_part(encoder, layers), DIM, ids=layers == ALL)
    return TextModel(inner, text, learning_rate=1e-4, weight_decay=0.1)


def batch_of(view: View, ids: bool = False, missing: float = 0.2, seed: int = 0) -> Batch:
    """Return a batch whose text is tokens; each utterance has 1 to 6 of them."""
    batch = make_batch(view, dims=DIMS, missing=missing, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    shape = batch.mask.shape
    present = batch.masks["text"] & batch.mask if view is View.CONTEXTUAL else batch.masks["text"].any(dim=-1)
    lengths = torch.randint(1, LONGEST + 1, shape, generator=generator) * present
    mask = torch.arange(LONGEST) < lengths.unsqueeze(-1)
    states: Tensor = torch.randn(*shape, LONGEST, DIM, generator=generator)
    if ids:
        states = torch.randint(2, 18, (*shape, LONGEST), generator=generator)
    words = None
    text_mask = present if view is View.CONTEXTUAL else mask
    if view is View.ALIGNED:
        words = torch.where(mask, torch.arange(LONGEST) // 2, -1)
        text_mask = torch.zeros_like(batch.masks["audio"])
        text_mask[:, :3] = torch.arange(3) < ((lengths + 1) // 2).unsqueeze(1)
    features = {"audio": batch.features["audio"]}
    masks = {"text": text_mask, "audio": batch.masks["audio"]}
    return dataclasses.replace(batch, features=features, masks=masks, tokens=Tokens(states, mask, words))


def answers(model: Model, batch: Batch) -> dict[str, Tensor]:
    model.eval()
    with torch.no_grad():
        return model(batch).predictions


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    for name, x in one.items():
        assert torch.allclose(x, other[name], atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3, ALL])
@pytest.mark.parametrize("view", VIEWS)
def test_the_model_reads_vectors(tiny_encoder: Path, view: View, layers: int) -> None:
    model = build(tiny_encoder, view, layers)
    batch = batch_of(view, ids=layers == ALL)
    encoded = model.eval().encode(batch)
    assert encoded.tokens is None
    assert tuple(encoded.features) == ("text", "audio")
    assert encoded.features["text"].shape == (*encoded.masks["text"].shape, DIM)
    assert encoded.features["text"].any(dim=-1).equal(encoded.masks["text"])
    assert model.inputs == DIMS
    check_inputs(model.inputs, encoded)
    assert_same(answers(model, batch), answers(model.model, encoded))


@pytest.mark.parametrize("layers", [2, ALL])
@pytest.mark.parametrize("view", VIEWS)
def test_padding_changes_nothing(tiny_encoder: Path, view: View, layers: int) -> None:
    model, batch = build(tiny_encoder, view, layers), batch_of(view, ids=layers == ALL)
    assert batch.tokens is not None
    before = answers(model, batch)
    mask = torch.cat([batch.tokens.mask, torch.zeros(*batch.mask.shape, 3, dtype=torch.bool)], dim=-1)
    x = batch.tokens.states
    more = torch.cat([x, torch.zeros(*mask.shape[:-1], 3, *x.shape[mask.dim() :], dtype=x.dtype)], dim=mask.dim() - 1)
    junk = 17 if layers == ALL else torch.nan
    more = torch.where(mask.reshape(*mask.shape, *[1] * (more.dim() - mask.dim())), more, junk)
    words = batch.tokens.words
    if words is not None:
        words = torch.cat([words, torch.full((len(words), 3), -1)], dim=1)
    masks = dict(batch.masks)
    if view is View.UNALIGNED:
        masks["text"] = mask
    longer = dataclasses.replace(batch, tokens=Tokens(more, mask, words), masks=masks)
    assert_same(before, answers(model, longer))


@pytest.mark.parametrize("view", VIEWS)
def test_a_sample_by_itself(tiny_encoder: Path, view: View) -> None:
    model, batch = build(tiny_encoder, view), batch_of(view)
    together = answers(model, batch)
    for index in range(batch.size):
        alone = answers(model, batch.map(lambda x, i=index: x[i : i + 1]))  # type: ignore[misc]
        assert_same({name: x[index : index + 1] for name, x in together.items()}, alone)


@pytest.mark.parametrize("view", VIEWS)
def test_a_missing_text_is_ignored(tiny_encoder: Path, view: View) -> None:
    model, batch = build(tiny_encoder, view), batch_of(view)
    assert batch.tokens is not None
    before = answers(model, batch)
    other = dataclasses.replace(
        batch, tokens=dataclasses.replace(batch.tokens, states=torch.randn(batch.tokens.states.shape))
    )
    assert any(not torch.allclose(x, answers(model, other)[name]) for name, x in before.items())
    # by its mask alone, whatever the tokens say
    assert_same(answers(model, batch.without("text")), answers(model, other.without("text")))


@pytest.mark.parametrize("layers", [1, 2, ALL])
@pytest.mark.parametrize("view", VIEWS)
def test_every_parameter_learns(tiny_encoder: Path, view: View, layers: int) -> None:
    model, batch = build(tiny_encoder, view, layers), batch_of(view, ids=layers == ALL)
    model.train()
    sum(model.losses(model(batch), batch).values()).backward()  # type: ignore[union-attr]
    (stage,) = model.stages()
    trained = {id(p) for group in stage.groups.values() for p in group.parameters}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert id(parameter) in trained, name


def test_the_groups_have_their_own_settings(tiny_encoder: Path) -> None:
    model = build(tiny_encoder, View.CONTEXTUAL, 2)
    (stage,) = model.stages()
    assert list(stage.groups) == ["all", "text", "text.plain"]
    text, plain = stage.groups["text"], stage.groups["text.plain"]
    assert (text.learning_rate, text.weight_decay) == (1e-4, 0.1)
    assert (plain.learning_rate, plain.weight_decay) == (1e-4, 0.0)
    assert {p.ndim for p in text.parameters} == {2}
    assert {p.ndim for p in plain.parameters} == {1}
    assert len(text.parameters) + len(plain.parameters) == len(list(model.encoder.parameters()))
    inner = sum(p.numel() for p in model.model.parameters())
    assert model.parameter_count() == inner + sum(p.numel() for p in model.encoder.parameters())


def test_the_encoder_stands_still_in_stages_without_text(tiny_encoder: Path) -> None:
    model, batch = build(tiny_encoder, View.CONTEXTUAL, 2, "bc_lstm"), batch_of(View.CONTEXTUAL, missing=0.0)
    stages = {stage.name: stage for stage in model.stages()}
    assert [name for name, stage in stages.items() if "text" in stage.groups] == ["unimodal.text"]
    for name in stages:
        model.zero_grad()
        model.train()
        model.stage = name
        assert model.model.stage == name
        sum(model.losses(model(batch), batch).values()).backward()  # type: ignore[union-attr]
        learned = [p.grad is not None for p in model.encoder.parameters()]
        assert all(learned) if name == "unimodal.text" else not any(learned)
        assert model.encoder.training == (name == "unimodal.text")


class Recording(Sequences):
    ended: int = -1

    def on_epoch_end(self, epoch: int) -> None:
        self.ended = epoch

    def stages(self) -> list[Stage]:
        return [Stage("only", {"mine": ParameterGroup(list(self.parameters()))}, epochs=3, select=False)]


def test_what_the_model_does_besides_is_done(tiny_encoder: Path) -> None:
    plain = build(tiny_encoder, View.UNALIGNED)
    inner = Recording(inputs=DIMS, tasks=plain.tasks)
    model = TextModel(inner, plain.encoder)
    model.on_epoch_end(7)
    assert inner.ended == 7
    (stage,) = model.stages()
    assert (stage.name, stage.epochs, stage.select) == ("only", 3, False)
    assert list(stage.groups) == ["mine", "text", "text.plain"]
    batch = batch_of(View.UNALIGNED)
    output = model.eval()(batch)
    assert output.read is not None
    losses = model.losses(output, batch)
    assert losses["size"] == output.read.features["text"].square().mean()


def test_dropout_in_training_alone(tiny_encoder: Path) -> None:
    model, batch = build(tiny_encoder, View.UNALIGNED), batch_of(View.UNALIGNED)
    model.train()
    assert not torch.equal(model.encode(batch).features["text"], model.encode(batch).features["text"])
    assert_same(answers(model, batch), answers(model, batch))


def test_weights_come_back(tiny_encoder: Path, tmp_path: Path) -> None:
    model, batch = build(tiny_encoder, View.ALIGNED), batch_of(View.ALIGNED)
    model.encoder.shift += 0.5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1
    save_weights(model, tmp_path / "model.safetensors")
    other = build(tiny_encoder, View.ALIGNED)
    load_weights(other, tmp_path / "model.safetensors")
    assert_same(answers(model, batch), answers(other, batch))


def test_tokens_and_vectors_are_not_confused(tiny_encoder: Path) -> None:
    model = build(tiny_encoder, View.CONTEXTUAL)
    with pytest.raises(AffectusError, match="reads text as tokens, but the batch brings none"):
        model(make_batch(View.CONTEXTUAL, dims=DIMS))
    # any other modality is checked as ever
    with pytest.raises(AffectusError, match="'audio'"):
        model(dataclasses.replace(batch_of(View.CONTEXTUAL), features={}))

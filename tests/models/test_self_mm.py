"""Self-MM against MMSA's model and MMSA's trainer: the labels that it makes, epoch by epoch, and the other kinds."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.signed import SignedLabels
from affectus.objectives import RealLoss
from affectus.testing import make_batch, make_tasks, repad
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
THEIRS = {"text": "text", "audio": "audio", "vision": "video", "fusion": "fusion"}
GOLDEN = {
    **{"widths": {"audio": 6, "vision": 7}, "encoded_widths": {"audio": 5, "vision": 6}, "fusion_dense": 10},
    **{"dense_widths": {"text": 8, "audio": 4, "vision": 5}},
    **{"learning_rates": {"audio": 5e-3, "vision": 2e-3}, "weight_decays": {"audio": 1e-3, "vision": 1e-2}},
}
CUTS = ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11])


def build(inputs=THREE, tasks=INTENSITY, **options):
    torch.manual_seed(0)
    sizes = {"hidden": 6, "encoded": 5, "dense": 7, "fusion_dense": 8, "dropout": 0.0}
    return MODELS["self_mm"].create(inputs, tasks, sizes | options).eval()


def places():
    found = {}
    for kind in ("weight", "bias"):
        for name, theirs in THEIRS.items():
            layer = f"post_{theirs}_layer"
            found[f"branches.{name}.first.{kind}"] = f"{layer}_1.{kind}"
            found[f"branches.{name}.second.{kind}"] = f"{layer}_2.{kind}"
            found[f"branches.{name}.heads.layers.intensity.{kind}"] = f"{layer}_3.{kind}"
            if name not in ("audio", "vision"):
                continue
            found[f"encoders.{name}.layer.{kind}"] = f"{theirs}_model.linear_1.{kind}"
            for part in ("ih_l0", "hh_l0"):
                found[f"encoders.{name}.recurrent.layer.{kind}_{part}"] = f"{theirs}_model.rnn.{kind}_{part}"
    return found


@pytest.fixture
def pair(mmsa):
    golden = mmsa("self_mm")
    model = build(golden.inputs, **GOLDEN)
    golden.copy(model, places())
    return golden, model


def remember(model, labels, joint):
    """Write made labels into the model's memory, as after an epoch."""
    for head, made in {"fusion": joint, **labels}.items():
        table = model.memory[head]
        table.write(torch.arange(len(made)), torch.cat([made, torch.zeros(len(made), table.values.shape[1] - 1)], 1))


def test_equals_mmsa(pair) -> None:
    """What every head says, each loss against given labels, and the gradients of all together."""
    golden, model = pair
    batch = golden.batch()
    remember(model, {name: golden[f"label.{name}"][:, None] for name in THREE}, golden["label"])
    model.train()
    output = model(batch)
    said = {"fusion": output.predictions["intensity"]}
    said |= {name: output.extras[f"prediction.{name}.intensity"] for name in THREE}
    for name, y in said.items():
        torch.testing.assert_close(y, golden[f"output.{name}"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.extras["features.fusion"], golden["output.fused"], atol=1e-5, rtol=1e-5)
    losses = model.losses(output, batch)
    torch.testing.assert_close(losses["intensity"], golden["loss.fusion"], atol=1e-5, rtol=1e-5)
    for name in THREE:
        torch.testing.assert_close(losses[f"intensity.{name}"], golden[f"loss.{name}"], atol=1e-5, rtol=1e-5)
    sum(losses.values()).backward()
    golden.check_gradients(model, places())
    assert golden.unused(places()) == set()


def test_makes_the_labels_that_mmsas_trainer_makes(pair) -> None:
    """Five epochs of two batches, each parameter with its group's rate: labels after each, weights at the end."""
    golden, model = pair
    whole = golden.batch()
    groups = [
        {
            "params": group.parameters,
            "lr": group.learning_rate or 1e-2,
            "weight_decay": 1e-4 if group.weight_decay is None else group.weight_decay,
        }
        for group in model.stages()[0].groups.values()
    ]
    optimizer = torch.optim.Adam(groups)
    model.train()
    for epoch in range(5):
        for rows in CUTS:
            batch = whole.map(lambda x, rows=rows: x[rows])
            output = model(batch)
            optimizer.zero_grad()
            sum(model.losses(output, batch).values()).backward()
            model.on_batch_end(output, batch)
            optimizer.step()
        model.on_epoch_end(epoch)
        for name in THEIRS:
            made = model.memory[name].values[:, 0]
            torch.testing.assert_close(made, golden[f"run.label.{epoch}.{name}"], atol=1e-4, rtol=1e-4)
    moved = model.memory["text"].values[:, 0] - golden["label"][:, 0]
    assert moved.abs().max() > 0.5  # else this would show nothing
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, golden[f"run.weight.{places()[name]}"], atol=1e-4, rtol=1e-3)


def test_a_made_label_by_hand() -> None:
    """The equations of the paper for one utterance, from features whose centres are known."""
    model = build()
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 5)
    label = torch.tensor([[2.0], [1.0], [-1.0], [-2.0], [0.0]])
    batch = replace(batch, labels=batch.labels | {"sentiment": label})
    model.train()
    output = model(batch)
    model.on_batch_end(output, batch)
    assert all(torch.equal(model.memory[head].values[:, 0], label[:, 0]) for head in model.memory)
    model.on_epoch_end(0)
    assert set(model.losses(output, batch)) == {"intensity", *(f"intensity.{name}" for name in THREE)}
    assert model.losses(output, batch)["intensity.audio"] == 0  # the labels are still the common ones
    model.on_batch_end(output, batch)

    def delta(head):
        features = output.extras[f"features.{head}"].detach()
        positive, negative = features[:2].mean(dim=0), features[2:4].mean(dim=0)
        to_positive, to_negative = ((features - centre).norm(dim=1) for centre in (positive, negative))
        return (to_negative - to_positive) / (to_positive + 1e-8)

    for name in THREE:
        own, common, y = delta(name), delta("fusion"), label[:, 0]
        new = (0.5 * own / (common + 1e-8) * y + 0.5 * (y + own - common)).clamp(-3, 3)
        expected = y / 3 + 2 / 3 * new
        torch.testing.assert_close(model.memory[name].values[:, 0], expected, atol=1e-5, rtol=1e-5)
        weight = torch.tanh((expected - y).abs())
        said = output.extras[f"prediction.{name}.intensity"][:, 0]
        loss = model.losses(output, batch)[f"intensity.{name}"]
        torch.testing.assert_close(loss, (weight * (said - expected).abs()).mean(), atol=1e-5, rtol=1e-5)


def test_without_a_class_labels_stay_and_nothing_is_nan() -> None:
    """MMSA's labels are not a number any more once a batch of one sign alone was seen."""
    model = build()
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3, 4))
    batch = replace(batch, labels=batch.labels | {"sentiment": torch.tensor([[1.0], [2.0]])})
    model.train()
    for epoch in range(3):
        output = model(batch)
        assert sum(model.losses(output, batch).values()).isfinite()
        model.on_batch_end(output, batch)
        model.on_epoch_end(epoch)
    assert model.memory["text"].values[:, 0].tolist() == [1.0, 2.0]


def test_a_missing_modality_gets_no_label() -> None:
    model = build()
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 4)
    masks = batch.masks | {"audio": batch.masks["audio"] & (torch.arange(4) != 1)[:, None]}
    batch = replace(batch, masks=masks)
    model.train()
    output = model(batch)
    model.on_batch_end(output, batch)
    assert torch.isnan(model.memory["audio"].values[1]).all()
    assert not torch.isnan(model.memory["audio"].values[[0, 2, 3]]).any()
    assert not torch.isnan(model.memory["text"].values).any()
    remember(model, {name: torch.full((4, 1), 3.0) for name in THREE}, batch.labels["sentiment"])
    said = output.extras["prediction.audio.intensity"].detach().clone()
    said[1] = 1e6
    other = replace(output, extras=output.extras | {"prediction.audio.intensity": said})
    torch.testing.assert_close(
        model.losses(other, batch)["intensity.audio"], model.losses(output, batch)["intensity.audio"]
    )


def test_labels_are_kept_by_row() -> None:
    """Whatever the order and the batch in which the utterances come."""
    model = build()
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 4)
    batch = replace(batch, rows=torch.tensor([7, 2, 11, 5]))
    model.train()
    model.on_batch_end(model(batch), batch)
    table = model.memory["text"].values
    assert len(table) == 12
    assert torch.equal(table[[7, 2, 11, 5], 0], batch.labels["sentiment"][:, 0])
    assert torch.isnan(table[[0, 1, 3, 4, 6, 8, 9, 10]]).all()
    more = replace(batch.map(lambda x: x[:1]), rows=torch.tensor([20]))
    model.on_batch_end(model(more), more)
    assert len(model.memory["text"].values) == 21
    assert torch.equal(model.memory["text"].values[7], table[7])


def test_the_trained_model_has_none_of_it() -> None:
    model = build()
    batch = make_batch(View.UNALIGNED, dims=THREE)
    model.train()
    model.on_batch_end(model(batch), batch)
    model.on_epoch_end(0)
    other = build()
    other.load_state_dict(model.state_dict())
    for head, table in model.memory.items():
        assert torch.equal(other.memory[head].values, table.values)
        assert len(table.values) == 4
    assert other.epochs == 1
    model.stage = "done"
    assert all(len(table.values) == 0 for table in model.memory.values())
    assert model.epochs == 0
    other.load_state_dict(model.state_dict())
    assert all(len(table.values) == 0 for table in other.memory.values())


def test_padding_changes_nothing(pair) -> None:
    golden, model = pair
    got = model(repad(golden.batch(), 3, torch.nan)).predictions["intensity"]
    torch.testing.assert_close(got, golden["output.fusion"], atol=1e-5, rtol=1e-5)


class TestOtherKinds:
    """Every value of a task is a label in [-1, 1]; what is made of it is a probability again."""

    def test_signed_labels(self) -> None:
        polarity, intensity, emotions, classes = make_tasks()
        nan = torch.nan
        assert SignedLabels(intensity).of_target(torch.tensor([[-2.0], [nan]])).tolist()[0] == [-2.0]
        assert SignedLabels(polarity).of_target(torch.tensor([[1.0]])).tolist() == [[-1.0, 1.0]]
        assert torch.isnan(SignedLabels(polarity).of_target(torch.tensor([[nan]]))).all()
        assert SignedLabels(classes).of_target(torch.tensor([[2.0]])).tolist() == [[-1.0, -1.0, 1.0]]
        assert SignedLabels(emotions).of_target(torch.tensor([[1.0, 0.0, 0, 0, 0, 0, 1]]))[0, :2].tolist() == [
            1.0,
            -1.0,
        ]
        assert (SignedLabels(intensity).limit, SignedLabels(emotions).limit, SignedLabels(intensity).middle) == (
            3.0,
            1.0,
            0.0,
        )

    def test_a_range_without_zero_has_its_middle(self) -> None:
        (ratings,) = make_tasks("ratings")
        code = SignedLabels(ratings)
        assert (code.middle, code.limit) == (4.0, 3.0)
        label = torch.tensor([[1.0, 6.0]])
        torch.testing.assert_close(code.of_target(label), torch.tensor([[-3.0, 2.0]]))
        assert code.loss(label, code.of_target(label), torch.ones(1, 2)) == 0
        assert code.loss(label + 1, code.of_target(label), torch.ones(1, 2)) == 1

    def test_an_unknown_range_is_that_of_the_labels(self) -> None:
        task = replace(INTENSITY[0], low=None, high=None)
        model = build(tasks=[task])
        batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 6)
        model.train()
        for epoch in range(3):
            model.on_batch_end(model(batch), batch)
            model.on_epoch_end(epoch)
        largest = batch.labels["sentiment"].abs().max()
        made = torch.cat([model.memory[name].values[:, :1] for name in THREE])
        assert made.abs().max() <= largest + 1e-6
        assert (made - batch.labels["sentiment"].repeat(3, 1)).abs().max() > 0.01

    def test_losses(self) -> None:
        polarity, _, emotions, classes = make_tasks()
        torch.manual_seed(0)
        # without a difference from the common label the loss is the usual one
        for task, target in (
            (polarity, torch.tensor([[1.0], [0.0]])),
            (classes, torch.tensor([[2.0], [0.0]])),
            (emotions, torch.tensor([[1.0, 0, 0, 1, 0, 0, 0], [0.0, 0, 0, 0, 0, 0, 1]])),
        ):
            code, said = SignedLabels(task), torch.randn(2, task.outputs)
            weight = torch.ones_like(code.of_target(target))
            torch.testing.assert_close(code.loss(said, code.of_target(target), weight), task.loss_of(said, target))
            half = code.loss(said, code.of_target(target), 0.5 * weight)
            torch.testing.assert_close(half, 0.5 * task.loss_of(said, target))
        # a soft label
        said, label = torch.randn(1, 3), torch.tensor([[0.5, -0.5, -1.0]])
        shares = torch.tensor([[0.75, 0.25, 0.0]])
        weight = torch.tensor([[0.3, 0.6, 0.0]])
        expected = 0.3 * F.cross_entropy(said, shares)
        torch.testing.assert_close(SignedLabels(classes).loss(said, label, weight), expected)
        missing = torch.full((1, 3), torch.nan)
        assert SignedLabels(classes).loss(said, missing, weight) == 0

    def test_balanced_weights_count(self) -> None:
        classes = replace(make_tasks("emotion_class")[0], positive_weights=(1.0, 5.0, 1.0))
        target, said = torch.tensor([[1.0]]), torch.randn(1, 3)
        code = SignedLabels(classes)
        got = code.loss(said, code.of_target(target), torch.ones(1, 3))
        torch.testing.assert_close(got, classes.loss_of(said, target))

    def test_labels_are_made_for_each_value(self) -> None:
        model = build(tasks=make_tasks())
        batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 12)
        model.train()
        for epoch in range(3):
            output = model(batch)
            losses = model.losses(output, batch)
            model.on_batch_end(output, batch)
            model.on_epoch_end(epoch)
        tasks = ("polarity", "intensity", "emotions", "emotion_class")
        assert set(losses) == {*tasks, *(f"{task}.{name}" for task in tasks for name in THREE)}
        assert all(losses[f"{task}.text"] > 0 for task in tasks)
        made = model.memory["text"].values[:, : 2 + 1 + 7 + 3]
        common = model.memory["fusion"].values[:, : 2 + 1 + 7 + 3]
        assert (made[:, 3:].abs() <= 1).all()
        moved = (made != common).any(dim=0)
        assert moved.sum() > 8


def test_valid_has_no_made_labels() -> None:
    model = build()
    batch = make_batch(View.UNALIGNED, dims=THREE)
    assert set(model.losses(model(batch), batch)) == {"intensity"}


def test_groups() -> None:
    model = build(learning_rates={"audio": 0.5}, weight_decays={"audio": 0.0, "vision": 0.25}, text="recurrent")
    groups = model.stages()[0].groups
    found = {name: (group.learning_rate, group.weight_decay) for name, group in groups.items()}
    assert found == {
        "encoder.text": (None, None),
        "encoder.audio": (0.5, 0.0),
        "encoder.vision": (None, 0.25),
        "branches": (None, None),
    }
    assert sum(len(group.parameters) for group in groups.values()) == len(list(model.parameters()))


@pytest.mark.parametrize("text", ["first", "mean", "recurrent"])
def test_how_the_text_is_read(text) -> None:
    model = build(text=text)
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(4,))
    changed = batch.features["text"].clone()
    changed[:, 2] += 1.0
    other = replace(batch, features=batch.features | {"text": changed})
    same = torch.equal(model(batch).predictions["intensity"], model(other).predictions["intensity"])
    assert same is (text == "first")
    assert ("text" in model.encoders) is (text == "recurrent")


# post_text, post_audio, post_video, lstm of audio and video; out of audio and video; dropouts; rates; decays
PUBLISHED = {
    "mosi": ((32, 16, 32), (16, 32), (16, 32), (0.0, 0.1, 0.1, 0.0), (5e-3, 5e-3), (1e-3, 1e-3), 1e-3, 16),
    "mosei": ((32, 16, 32), (16, 32), (16, 32), (0.1, 0.0, 0.0, 0.0), (5e-3, 1e-4), (0.0, 0.0), 1e-2, 32),
    "sims": ((64, 16, 32), (16, 64), (16, 32), (0.0, 0.1, 0.1, 0.0), (5e-3, 5e-3), (1e-2, 1e-2), 1e-3, 32),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    dense, states, ends, drops, rates, decays, decay, batch_size = PUBLISHED[preset]
    options, settings = resolve_settings(MODELS["self_mm"], preset=preset)
    model = MODELS["self_mm"].create(THREE, INTENSITY, options)
    assert tuple(model.branches[name].first.out_features for name in THREE) == dense
    assert model.branches["fusion"].first.out_features == 128
    assert tuple(model.branches[name].drop.p for name in ("fusion", *THREE)) == drops
    assert tuple(model.encoders[name].recurrent.layer.hidden_size for name in ("audio", "vision")) == states
    assert tuple(model.encoders[name].layer.out_features for name in ("audio", "vision")) == ends
    groups = model.stages()[0].groups
    assert tuple(groups[f"encoder.{name}"].learning_rate for name in ("audio", "vision")) == rates
    assert tuple(groups[f"encoder.{name}"].weight_decay for name in ("audio", "vision")) == decays
    assert (settings.learning_rate, settings.weight_decay, settings.batch_size) == (1e-3, decay, batch_size)
    assert (settings.text_learning_rate, settings.text_weight_decay, settings.text_layers) == (5e-5, 1e-3, -1)
    assert settings.text_encoder == ("bert-base-chinese" if preset == "sims" else "bert-base-uncased")
    assert (settings.accumulate, settings.patience, settings.real_loss) == (4, 8, "l1")
    assert settings.select == "task_loss"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "cls"}, "Unknown value of the option 'text'"),
        ({"dropout": 1.0}, "'dropout' is out of range"),
        ({"dropouts": {"text": 1.5}}, r"'dropouts\.text' is out of range"),
        ({"fusion_dropout": -1.0}, "'fusion_dropout' is out of range"),
        ({"encoder_dropout": 1.0}, "'encoder_dropout' is out of range"),
        ({"widths": {"vison": 3}}, r"Unknown modality 'vison'.*Did you mean 'vision'"),
        ({"encoded_widths": {"audio": 0}}, r"'encoded_widths\.audio' is no size"),
        ({"dense_widths": {"audio": 1.5}}, r"'dense_widths\.audio' is no size"),
        ({"learning_rates": {"audio": 0}}, r"'learning_rates\.audio' is out of range.*above 0"),
        ({"weight_decays": {"audio": -1}}, r"'weight_decays\.audio' is out of range"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(AffectusError, match=message):
        build(**options)


def test_a_modality_may_not_bear_the_heads_name() -> None:
    with pytest.raises(AffectusError, match=r"A modality has the name of a head.*fusion"):
        build({"text": 4, "fusion": 3})

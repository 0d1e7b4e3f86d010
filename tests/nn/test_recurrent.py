"""The step loops against PyTorch's own layers, Keras's equations by hand, and what dropout and masks do."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affectus.nn.recurrent import BiGRUs, BiLSTMs, hard_sigmoid

LENGTHS = torch.tensor([5, 3, 1])
HIDDEN = 7
INPUTS = {"text": 4, "audio": 3}


@pytest.fixture
def features() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(3, 5, dim) for name, dim in INPUTS.items()}


@pytest.fixture
def masks() -> dict[str, Tensor]:
    return dict.fromkeys(INPUTS, torch.arange(5) < LENGTHS.unsqueeze(1))


def _as_torch(ours: BiGRUs | BiLSTMs, kind: type[nn.GRU] | type[nn.LSTM], index: int, name: str) -> nn.Module:
    """PyTorch's layer with the weights of ours."""
    layer = ours.input_layers[name]
    theirs = kind(layer.in_features, HIDDEN, bidirectional=True, batch_first=True)
    for direction, suffix in enumerate(("", "_reverse")):
        rows = slice(direction * ours.blocks * HIDDEN, (direction + 1) * ours.blocks * HIDDEN)
        getattr(theirs, f"weight_ih_l0{suffix}").data = layer.weight.data[rows]
        getattr(theirs, f"bias_ih_l0{suffix}").data = layer.bias.data[rows]
        getattr(theirs, f"weight_hh_l0{suffix}").data = ours.recurrent.data[2 * index + direction].T
        bias = getattr(ours, "recurrent_bias", None)
        getattr(theirs, f"bias_hh_l0{suffix}").data = (
            torch.zeros(ours.blocks * HIDDEN) if bias is None else bias.data[2 * index + direction, 0]
        )
    return theirs


@pytest.mark.parametrize(("ours", "theirs"), [(BiGRUs, nn.GRU), (BiLSTMs, nn.LSTM)])
def test_equals_torch_with_packed_sequences(ours, theirs, features, masks) -> None:
    torch.manual_seed(1)
    layer = ours(INPUTS, HIDDEN)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    got = layer(features, masks)
    for index, name in enumerate(INPUTS):
        packed = pack_padded_sequence(features[name], LENGTHS, batch_first=True, enforce_sorted=False)
        expected, _ = pad_packed_sequence(_as_torch(layer, theirs, index, name)(packed)[0], batch_first=True)
        real = masks[name].unsqueeze(-1)
        torch.testing.assert_close(got[name] * real, expected * real, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [BiGRUs, BiLSTMs])
def test_a_masked_step_is_skipped(kind, features, masks) -> None:
    """A step masked in the middle gives what the sequence without it gives."""
    layer = kind({"text": 4}, HIDDEN)
    x = features["text"]
    mask = torch.tensor([[True, True, False, True, True]]).expand(3, 5)
    shorter = layer({"text": x[:, [0, 1, 3, 4]]}, {"text": mask[:, [0, 1, 3, 4]]})["text"]
    got = layer({"text": x.masked_fill(~mask.unsqueeze(-1), math.nan)}, {"text": mask})["text"]
    torch.testing.assert_close(got[:, [0, 1, 3, 4]], shorter)
    # Keras repeats the last output of each direction
    torch.testing.assert_close(got[:, 2, :HIDDEN], got[:, 1, :HIDDEN])
    torch.testing.assert_close(got[:, 2, HIDDEN:], got[:, 3, HIDDEN:])


def test_hard_sigmoid_is_that_of_keras() -> None:
    x = torch.tensor([-9.0, -2.5, -1.0, 0.0, 1.0, 2.5, 9.0])
    torch.testing.assert_close(hard_sigmoid(x), torch.tensor([0.0, 0.0, 0.3, 0.5, 0.7, 1.0, 1.0]))


def test_keras_gru_by_hand() -> None:
    """One unit, two steps: reset gate before the product, piecewise linear gates, update gate keeps the old state."""
    layer = BiGRUs({"x": 1}, 1, reset_after=False, hard_gates=True)
    w_r, w_z, w_h, u_r, u_z, u_h, b_h = 0.5, -0.4, 1.2, 0.9, 0.3, -0.7, 0.1
    layer.input_layers["x"].weight.data[:, 0] = torch.tensor([w_r, w_z, w_h, 0, 0, 0])
    layer.input_layers["x"].bias.data = torch.tensor([0, 0, b_h, 0, 0, 0])
    layer.recurrent.data[0, 0] = torch.tensor([u_r, u_z, u_h])
    h, expected = 0.0, []
    for x in (0.8, -1.5):
        r = min(max(0.2 * (w_r * x + u_r * h) + 0.5, 0), 1)
        z = min(max(0.2 * (w_z * x + u_z * h) + 0.5, 0), 1)
        h = z * h + (1 - z) * math.tanh(w_h * x + u_h * (r * h) + b_h)
        expected.append(h)
    got = layer({"x": torch.tensor([[[0.8], [-1.5]]])}, {"x": torch.ones(1, 2, dtype=torch.bool)})["x"]
    torch.testing.assert_close(got[0, :, 0], torch.tensor(expected))


def test_keras_lstm_by_hand() -> None:
    layer = BiLSTMs({"x": 1}, 1, hard_gates=True)
    w, u, b = (0.5, -0.4, 1.2, 0.8), (0.9, 0.3, -0.7, -0.2), (0.0, 1.0, 0.1, 0.0)  # input, forget, candidate, output
    layer.input_layers["x"].weight.data[:4, 0] = torch.tensor(w)
    layer.input_layers["x"].bias.data[:4] = torch.tensor(b)
    layer.recurrent.data[0, 0] = torch.tensor(u)
    h = c = 0.0
    expected = []
    for x in (0.8, -1.5, 3.0):
        i, f, g, o = (wk * x + uk * h + bk for wk, uk, bk in zip(w, u, b, strict=True))
        i, f, o = (min(max(0.2 * v + 0.5, 0), 1) for v in (i, f, o))
        c = f * c + i * math.tanh(g)
        h = o * math.tanh(c)
        expected.append(h)
    got = layer({"x": torch.tensor([[[0.8], [-1.5], [3.0]]])}, {"x": torch.ones(1, 3, dtype=torch.bool)})["x"]
    torch.testing.assert_close(got[0, :, 0], torch.tensor(expected))


def test_initialised_as_keras_does() -> None:
    lstm = BiLSTMs(INPUTS, HIDDEN)
    bias = lstm.input_layers["text"].bias.view(2, 4, HIDDEN)
    assert (bias[:, 1] == 1).all()
    assert bias.sum() == 2 * HIDDEN
    for matrix in lstm.recurrent:
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(HIDDEN), atol=1e-5, rtol=0)
    assert lstm.input_layers["text"].weight.abs().max() <= math.sqrt(6 / (4 + 4 * HIDDEN))


@pytest.mark.parametrize("kind", [BiGRUs, BiLSTMs])
def test_input_dropout_is_the_same_at_every_step(kind, no_kernels) -> None:
    torch.manual_seed(0)
    layer = kind({"x": 50}, 3, dropout=0.5).train()
    seen = []
    layer.input_layers["x"].register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    layer({"x": torch.ones(4, 6, 50)}, {"x": torch.ones(4, 6, dtype=torch.bool)})
    x = seen[0]
    assert set(x.unique().tolist()) == {0.0, 2.0}  # what stays is scaled up
    assert (x == x[:, :1]).all()
    assert not (x[0] == x[1]).all()  # each sample has its own


@pytest.mark.parametrize("kind", [BiGRUs, BiLSTMs])
def test_recurrent_dropout_is_the_same_at_every_step(kind, monkeypatch, no_kernels) -> None:
    torch.manual_seed(0)
    layer = kind({"x": 5}, 40, recurrent_dropout=0.5).train()
    seen, step = [], layer.step
    monkeypatch.setattr(layer, "step", lambda x, h, state: (seen.append((h, state[0])), step(x, h, state))[1])
    layer({"x": torch.randn(2, 4, 5)}, {"x": torch.ones(2, 4, dtype=torch.bool)})
    assert len(seen) == 4
    factors = [h / state for h, state in seen[1:]]  # the first state is zero
    for factor in factors:
        torch.testing.assert_close(factor, factors[0])
        torch.testing.assert_close(factor.unique().round(), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("kind", [BiGRUs, BiLSTMs])
def test_no_dropout_in_evaluation(kind, features, masks) -> None:
    layer = kind(INPUTS, HIDDEN, dropout=0.9, recurrent_dropout=0.9).eval()
    first, second = layer(features, masks), layer(features, masks)
    assert all(torch.equal(first[name], second[name]) for name in INPUTS)

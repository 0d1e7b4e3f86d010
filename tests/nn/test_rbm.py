"""Boltzmann machines against sums over all their states, and contrastive divergence against its statistics."""

import itertools

import numpy as np
import pytest
import torch

from affectus.nn.rbm import RBM


def machine(gaussian: bool, visible: int = 3, hidden: int = 2) -> RBM:
    torch.manual_seed(0)
    rbm = RBM(visible, hidden, gaussian=gaussian).double()
    for parameter in rbm.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return rbm


def states(units: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)), dtype=torch.double)


def energy(rbm: RBM, v: np.ndarray, h: np.ndarray) -> float:
    W, b, c = (x.detach().numpy() for x in (rbm.weight, rbm.visible_bias, rbm.hidden_bias))
    own = 0.5 * ((v - b) ** 2).sum() if rbm.gaussian else -(b * v).sum()
    return float(own - (c * h).sum() - h @ W @ v)


@pytest.mark.parametrize("gaussian", [True, False])
def test_energy_and_probabilities_by_enumeration(gaussian: bool) -> None:
    rbm = machine(gaussian)
    vs = torch.randn(4, 3, dtype=torch.double) if gaussian else states(3)
    hs = states(2).numpy()
    for v in vs:
        weights = np.array([np.exp(-energy(rbm, v.numpy(), h)) for h in hs])
        np.testing.assert_allclose(rbm.free_energy(v).item(), -np.log(weights.sum()), atol=1e-10)
        expected = (weights[:, None] * hs).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(rbm.hidden(v).detach().numpy(), expected, atol=1e-10)
    if not gaussian:
        for h in hs:
            weights = np.array([np.exp(-energy(rbm, v.numpy(), h)) for v in vs])
            expected = (weights[:, None] * vs.numpy()).sum(axis=0) / weights.sum()
            np.testing.assert_allclose(rbm.visible(torch.from_numpy(h)).detach().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gaussian", [True, False])
def test_the_gradient_is_positive_less_negative_statistics(gaussian: bool, training: bool) -> None:
    rbm = machine(gaussian).train(training)
    v = torch.randn(5, 3, dtype=torch.double) if gaussian else states(3)[:5]
    there = torch.tensor([True, True, False, True, True])
    torch.manual_seed(7)
    loss = rbm.divergence(v, there)
    loss.backward()
    torch.manual_seed(7)
    W, b, c = (x.detach().numpy() for x in (rbm.weight, rbm.visible_bias, rbm.hidden_bias))

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    x = v.numpy()
    h = sigmoid(x @ W.T + c)
    drawn = torch.bernoulli(torch.from_numpy(h)).numpy() if training else h
    again = drawn @ W + b
    again = again if gaussian else sigmoid(again)
    h_again = sigmoid(again @ W.T + c)
    kept = there.numpy()
    positive, negative = h[kept].T @ x[kept], h_again[kept].T @ again[kept]
    np.testing.assert_allclose(rbm.weight.grad.numpy(), -(positive - negative) / 4, atol=1e-10)
    np.testing.assert_allclose(rbm.hidden_bias.grad.numpy(), -(h - h_again)[kept].sum(axis=0) / 4, atol=1e-10)
    np.testing.assert_allclose(rbm.visible_bias.grad.numpy(), -(x - again)[kept].sum(axis=0) / 4, atol=1e-10)
    np.testing.assert_allclose(loss.item(), ((x - again)[kept] ** 2).mean(), atol=1e-10)


def test_unknown_units_have_no_part() -> None:
    """The machine of the known units alone has the same error and the same gradient."""
    rbm, less = machine(False, visible=5), machine(False, visible=3)
    less.weight.data = rbm.weight.data[:, :3].clone()
    less.visible_bias.data, less.hidden_bias.data = rbm.visible_bias.data[:3].clone(), rbm.hidden_bias.data.clone()
    v = torch.rand(4, 5, dtype=torch.double)
    known = torch.tensor([True] * 3 + [False] * 2).expand(4, -1)
    there = torch.ones(4, dtype=torch.bool)
    a, b = rbm.eval().divergence(v, there, known), less.eval().divergence(v[:, :3], there)
    torch.testing.assert_close(a, b)
    a.backward()
    b.backward()
    torch.testing.assert_close(rbm.weight.grad[:, :3], less.weight.grad)
    assert (rbm.weight.grad[:, 3:] == 0).all()
    assert (rbm.visible_bias.grad[3:] == 0).all()


def test_without_a_row_there_is_nothing_to_learn() -> None:
    rbm = machine(True)
    loss = rbm.divergence(torch.randn(2, 3, dtype=torch.double), torch.zeros(2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert all((p.grad == 0).all() for p in rbm.parameters())


def test_learning_makes_the_data_more_likely() -> None:
    """The exact likelihood, by the sum over all visible states, rises."""
    torch.manual_seed(0)
    rbm = RBM(4, 3, gaussian=False).double().train()
    data = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.double).repeat(20, 1)
    there = torch.ones(len(data), dtype=torch.bool)

    def likelihood() -> float:
        with torch.no_grad():
            return (-rbm.free_energy(data).mean() - torch.logsumexp(-rbm.free_energy(states(4)), 0)).item()

    before = likelihood()
    optimizer = torch.optim.Adam(rbm.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        rbm.divergence(data, there).backward()
        optimizer.step()
    assert before == pytest.approx(-4 * np.log(2), abs=0.1)
    assert likelihood() > -1.1  # two patterns, equally likely: -log 2 at best

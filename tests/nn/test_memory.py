"""The gated memory against its equations, one utterance and one step after the other."""

import pytest
import torch

from affectus.nn.memory import GatedMemory, _Steps
from affectus.nn.packing import Packing

MASK = torch.tensor([[True, False, True, True], [True, True, False, False], [False] * 4, [True] * 4])


def _memory(**dropouts):
    torch.manual_seed(0)
    shares = {f"{name}_dropout": 0.0 for name in ("candidate", "retain", "update")} | dropouts
    return GatedMemory(3, 5, candidate=4, retain=6, update=2, **shares)


def by_loops(memory, x, mask):
    """Zadeh et al. 2018, the gated memory, for one utterance after the other."""
    found = torch.zeros(*mask.shape, 5)
    for b in range(len(mask)):
        u = torch.zeros(5)
        for t in range(mask.shape[1]):
            if mask[b, t]:
                both = torch.cat([x[b, t], u])
                gates = [
                    torch.sigmoid(out(torch.relu(inner(both))))
                    for inner, out in ((memory.retain_in, memory.retain_out), (memory.update_in, memory.update_out))
                ]
                u = gates[0] * u + gates[1] * memory.candidate(x[b, t])
                found[b, t] = u
    return found


def test_equals_its_equations_and_so_do_the_gradients() -> None:
    memory, x, packing = _memory(), torch.randn(4, 4, 3, requires_grad=True), Packing(MASK)
    ours, expected = packing.unpack(memory(packing.pack(x), packing)), by_loops(memory, x, MASK)
    torch.testing.assert_close(ours, expected)
    inputs, weights = (x, *memory.parameters()), torch.randn_like(ours)
    found = torch.autograd.grad((ours * weights).sum(), inputs)
    for a, b in zip(found, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b)
        assert (b != 0).any()


@pytest.mark.parametrize("dropped", [False, True])
def test_gradient_of_the_steps(dropped: bool) -> None:
    torch.manual_seed(1)
    sizes, shapes = [3, 2, 2], ((7, 6), (7, 3), (6, 3), (3, 4), (3,), (3, 2), (3,))
    inputs = tuple(torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes)
    keep = (torch.rand(7, 6) > 0.4).double() * 2 if dropped else None
    assert torch.autograd.gradcheck(lambda *given: _Steps.apply(*given, keep, sizes), inputs)


def test_each_gate_has_its_dropout_in_training_alone() -> None:
    x, packing = torch.randn(4, 4, 3), Packing(MASK)
    rows = packing.pack(x)
    plain = _memory()(rows, packing)
    for name in ("candidate_dropout", "retain_dropout", "update_dropout"):
        memory = _memory(**{name: 0.9})
        assert not torch.equal(memory.train()(rows, packing), memory(rows, packing))
        torch.testing.assert_close(memory.eval()(rows, packing), plain)


def test_without_a_real_step_there_is_no_gradient() -> None:
    memory, packing = _memory(), Packing(torch.zeros(2, 3, dtype=torch.bool))
    y = memory(packing.pack(torch.randn(2, 3, 3)), packing)
    assert y.shape == (0, 5)
    y.sum().backward()
    assert all((parameter.grad == 0).all() for parameter in memory.parameters())

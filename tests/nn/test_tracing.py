"""Every network in plain form, as it is exported and batched over seeds, says and learns what it does otherwise."""

import pytest
import torch

from affectus.models.base import Model
from affectus.nn.masking import front_order
from affectus.nn.packing import Packing
from affectus.nn.tracing import is_plain, plain, run_steps
from affectus.testing import Case, cases

NETWORKS = [case for case in cases() if issubclass(case.entry.build, Model)]


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_a_network_says_and_learns_the_same_in_plain_form(case: Case) -> None:
    model = case.build()
    assert isinstance(model, Model)
    model.stage = model.stages()[-1].name
    for missing in (0.0, 0.4):
        batch = case.batch(missing=missing)
        found = []
        for mode in (False, True):
            model.zero_grad()
            if mode:
                with plain():
                    output = model(batch)
            else:
                output = model(batch)
            losses = model.losses(output, batch)
            torch.stack(list(losses.values())).sum().backward()
            gradients = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
            found.append(({k: y[batch.mask] for k, y in output.predictions.items()}, gradients))
        (said, learned), (plainly, again) = found
        for name, y in said.items():
            torch.testing.assert_close(plainly[name], y, rtol=1e-4, atol=1e-5, msg=lambda m: f"{case}: {m}")
        assert learned.keys() == again.keys()
        for name, gradient in learned.items():
            scale = max(1.0, float(gradient.abs().max()))
            assert float((again[name] - gradient).abs().max()) < 1e-4 * scale, name


def test_plain_form_ends_with_its_block() -> None:
    assert not is_plain()
    with plain():
        assert is_plain()
    assert not is_plain()
    with pytest.raises(ZeroDivisionError), plain():
        _ = 1 / 0
    assert not is_plain()


def test_the_steps_of_a_recurrence() -> None:
    entering = torch.arange(1.0, 5.0).unsqueeze(1)  # (4, 1)
    last, (sums,) = run_steps(lambda h, x: ((h[0] + x[0],), (h[0] + x[0],)), (torch.zeros(1),), (entering,))
    assert sums.flatten().tolist() == [1.0, 3.0, 6.0, 10.0]
    assert last[0].tolist() == [10.0]


def test_packing_in_plain_form_has_the_same_ends_and_order() -> None:
    mask = torch.tensor([[True, False, True, True], [False, True, False, False], [False] * 4])
    x = torch.arange(24.0).view(3, 4, 2)
    packed = Packing(mask)
    with plain():
        padded = Packing(mask)
    for end in ("first", "last"):
        expected = getattr(packed, end)(packed.pack(x))
        assert torch.equal(getattr(padded, end)(padded.pack(x)), expected)
    for this in (packed, padded):
        turned = this.unpack(this.pack(x)[this.turned])
        assert torch.equal(turned[0, [0, 2, 3]], x[0, [3, 2, 0]])
        assert torch.equal(this.unpack(this.pack(x)[this.turned][this.turned]), this.unpack(this.pack(x)))
    assert front_order(mask)[0].tolist() == [0, 2, 3, 1]

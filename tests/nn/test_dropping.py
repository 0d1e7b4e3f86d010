import pytest
import torch
from torch.testing import assert_close

from affectus.nn.dropping import LargeDropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
def test_it_drops_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(400, 501)
    y = LargeDropout(share)(x)
    assert abs(float((y == 0).float().mean()) - share) < 0.005
    assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - share)), rtol=1e-4, atol=0)


def test_the_gradient_has_the_same_holes() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 7, requires_grad=True)
    y = LargeDropout(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert_close(x.grad * x.detach(), y.detach())
    assert 0 < int((x.grad == 0).sum()) < 21


def test_nothing_is_dropped_in_evaluation_or_at_zero() -> None:
    x = torch.randn(3, 7)
    assert LargeDropout(0.5).eval()(x) is x
    assert LargeDropout(0.0)(x) is x

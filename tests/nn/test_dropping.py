import pytest
import torch
from torch.testing import assert_close

from affectus.nn.dropping import FEW, Dropout, LargeDropout, dropout

KINDS = pytest.mark.parametrize("kind", [Dropout, LargeDropout])


@KINDS
@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
def test_it_drops_its_share_and_keeps_the_mean(kind: type[Dropout | LargeDropout], share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(400, 501)
    y = kind(share)(x)
    # no more often beside another that is dropped
    beside = (y[:, 1:] == 0) & (y[:, :-1] == 0)
    assert abs(float(beside.float().mean()) - share**2) < 0.005
    assert abs(float((y == 0).float().mean()) - share) < 0.005
    assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - share)), rtol=1e-4, atol=0)


@KINDS
@pytest.mark.parametrize("rows", [3, FEW])
def test_the_gradient_has_the_same_holes(kind: type[Dropout | LargeDropout], rows: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(rows, 7, requires_grad=True)
    y = kind(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert_close(x.grad * x.detach(), y.detach())
    assert 0 < int((x.grad == 0).sum()) < x.numel()


@KINDS
def test_nothing_is_dropped_in_evaluation_or_at_zero(kind: type[Dropout | LargeDropout]) -> None:
    x = torch.randn(FEW, 7)
    assert kind(0.5).eval()(x) is x
    assert kind(0.0)(x) is x


def test_a_seed_decides() -> None:
    x = torch.randn(FEW, 2)
    one, other = (torch.manual_seed(3) and dropout(x, 0.3, True) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(dropout(x, 0.3, True), one)

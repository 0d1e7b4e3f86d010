import pytest
import torch
from torch import nn

from affectus.errors import AffectusError
from affectus.nn.low_rank import add_low_rank, low_rank_parts, merge_low_rank


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Sequential(nn.Linear(5, 3)))


def test_nothing_changes_before_training_and_only_the_changes_are_trained() -> None:
    plain, tuned = net(0), net(0)
    assert add_low_rank(tuned, 2) == ["0", "2.0"]
    x = torch.randn(4, 6)
    assert torch.equal(plain(x), tuned(x))
    trained = [name for name, p in tuned.named_parameters() if p.requires_grad]
    assert all(name.endswith((".down", ".up")) for name in trained)
    assert len(trained) == 4


def test_merged_changes_are_those_that_were_trained() -> None:
    tuned, fresh = net(0), net(0)
    add_low_rank(tuned, 2, scale=6.0)
    with torch.no_grad():
        for p in tuned.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p))
    x = torch.randn(4, 6)
    merge_low_rank(fresh, low_rank_parts(tuned))
    assert torch.allclose(fresh(x), tuned(x), atol=1e-5)
    assert not torch.allclose(net(0)(x), tuned(x), atol=1e-2)


@pytest.mark.parametrize("broken", ["name", "shape", "half"])
def test_what_does_not_fit_is_said(broken: str) -> None:
    tuned = net(0)
    add_low_rank(tuned, 2)
    parts = low_rank_parts(tuned)
    if broken == "name":
        parts = {f"other.{name}": value for name, value in parts.items()}
    elif broken == "shape":
        parts["0.up"] = parts["0.up"][:2]
    else:
        del parts["0.down"]
    with pytest.raises(AffectusError, match=r"low-rank change of the layer .* does not fit"):
        merge_low_rank(net(0), parts)

"""Masked batch normalisation against PyTorch's."""

import pytest
import torch
from torch import nn

from affectus.nn.normalization import MaskedBatchNorm, StepBatchNorm


def test_normalises_the_real_rows_as_torch_does() -> None:
    torch.manual_seed(0)
    ours, theirs = MaskedBatchNorm(3), nn.BatchNorm1d(3)
    nn.init.normal_(ours.norm.weight)
    nn.init.normal_(ours.norm.bias)
    theirs.load_state_dict(ours.norm.state_dict())
    x, mask = torch.randn(6, 3) * 4 + 2, torch.tensor([True, False, True, True, False, True])
    garbage = x.masked_fill(~mask.unsqueeze(-1), torch.nan)
    got, expected = ours(garbage, mask), theirs(x[mask])
    torch.testing.assert_close(got[mask], expected)
    assert (got[~mask] == 0).all()
    # the first batch's statistics are all that is known
    torch.testing.assert_close(ours.norm.running_mean, x[mask].mean(dim=0))
    torch.testing.assert_close(ours.norm.running_var, x[mask].var(dim=0, correction=0))
    # so that in evaluation the same batch gives the same
    torch.testing.assert_close(ours.eval()(garbage, mask), got)
    theirs.eval()
    theirs.load_state_dict(ours.norm.state_dict())
    torch.testing.assert_close(ours(garbage, mask)[mask], theirs(x[mask]))


def test_running_statistics_are_means_at_first_and_then_forget() -> None:
    torch.manual_seed(0)
    layer, batches = MaskedBatchNorm(1), torch.randn(40, 8, 1)
    for batch in batches[:10]:
        layer(batch, torch.ones(8, dtype=torch.bool))
    mean = batches[:10].mean()
    torch.testing.assert_close(layer.norm.running_mean[0], mean)
    for batch in batches[10:]:
        layer(batch, torch.ones(8, dtype=torch.bool))
        mean = 0.9 * mean + 0.1 * batch.mean()
    torch.testing.assert_close(layer.norm.running_mean[0], mean)


@pytest.mark.parametrize("real", [0, 1])
def test_a_single_row_is_normalised_by_what_was_seen_before(real: int) -> None:
    torch.manual_seed(0)
    layer, x = MaskedBatchNorm(2), torch.randn(5, 2)
    layer(x, torch.ones(5, dtype=torch.bool))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    mask = torch.arange(5) < real
    got = layer(x, mask)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert torch.equal(got, layer.eval()(x, mask))


def test_each_step_as_torch_does() -> None:
    torch.manual_seed(0)
    ours, theirs = StepBatchNorm(4), nn.BatchNorm1d(4)
    nn.init.normal_(ours.norm.weight)
    nn.init.normal_(ours.norm.bias)
    theirs.load_state_dict(ours.norm.state_dict())
    x = (torch.randn(3, 4, 5) * 2 + torch.arange(4.0).view(1, 4, 1)).requires_grad_()
    step, real = torch.arange(4).repeat(3), torch.ones(12, 5, dtype=torch.bool)
    got, expected = ours(x.reshape(12, 5), step, real).view(3, 4, 5), theirs(x)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(ours.norm.running_mean, x.mean(dim=(0, 2)))
    torch.testing.assert_close(ours.norm.running_var, x.var(dim=(0, 2), correction=0))
    weights = torch.randn_like(got)
    gradients = torch.autograd.grad((got * weights).sum(), (x, *ours.parameters()))
    for a, b in zip(gradients, torch.autograd.grad((expected * weights).sum(), (x, *theirs.parameters())), strict=True):
        torch.testing.assert_close(a, b)
    theirs.load_state_dict(ours.norm.state_dict())
    torch.testing.assert_close(ours.eval()(x.reshape(12, 5), step, real).view(3, 4, 5), theirs.eval()(x))


def test_only_real_values_count_and_late_steps_share_the_last_statistics() -> None:
    torch.manual_seed(0)
    layer, x = StepBatchNorm(2), torch.randn(6, 4)
    step, real = torch.tensor([0, 0, 1, 1, 2, 3]), torch.rand(6, 4) > 0.3
    real[2:5] = False
    real[3, 0] = True  # and one value at the last step that has statistics, with what comes later
    got = layer(x, step, real)
    values = x[:2][real[:2]]
    expected = (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(got[:2][real[:2]], expected)
    late = torch.cat([x[3, :1], x[5][real[5]]])
    torch.testing.assert_close(got[3, 0], (x[3, 0] - late.mean()) / (late.var(unbiased=False) + 1e-5).sqrt())
    assert (got[~real] == 0).all()


def test_a_step_of_one_value_is_normalised_by_what_was_seen_before() -> None:
    layer = StepBatchNorm(2)
    step, real = torch.tensor([0, 0, 1]), torch.ones(3, 1, dtype=torch.bool)
    x = torch.tensor([[1.0], [3.0], [5.0]])
    got = layer(x, step, real)
    torch.testing.assert_close(got[:2, 0], torch.tensor([-1.0, 1.0]))
    assert got[2, 0].item() == pytest.approx(5, abs=1e-4)  # nothing was seen: mean 0, variance 1
    assert layer.norm.running_mean.tolist() == [2.0, 0.0]
    assert layer.norm.running_var.tolist() == [1.0, 1.0]

"""Workers that share a batch go where one would go with all of it."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from affectus.batches import Batch
from affectus.models import MODELS, Model
from affectus.nn.together import mean_over, sum_over, together
from affectus.testing import Case, cases
from affectus.training.team import why_apart

NETWORKS = [case for case in cases() if issubclass(MODELS[case.model].build, Model)]
TOGETHER = [case for case in NETWORKS if why_apart(MODELS[case.model].build) is None]


class Threads:
    """Two workers that are threads of this process."""

    workers = 2

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=30)
        self.given: dict[int, Tensor] = {}

    def add(self, x: Tensor) -> Tensor:
        self.given[threading.get_ident()] = x.detach()
        self.barrier.wait()
        total = torch.stack([self.given[key] for key in sorted(self.given)]).sum(dim=0)
        self.barrier.wait()
        return total


def _at_once(work: Sequence[Callable[[], Any]]) -> list[Any]:
    others, found = Threads(), [None] * len(work)

    def run(number: int) -> None:
        try:
            with together(others):
                found[number] = work[number]()
        except BaseException:
            others.barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _model(case: Case) -> Model:
    model = case.build(dropout=False)
    assert isinstance(model, Model)
    model.double().train()
    model.stage = model.stages()[-1].name
    return model


def _gradient(model: Model, batch: Batch) -> Tensor:
    """The gradient of a batch, and how the running statistics move."""
    losses = model.losses(model(batch), batch)
    torch.stack(list(losses.values())).sum().backward()
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([x.double().flatten() for x in (*parts, *model.buffers())])


@pytest.mark.parametrize("case", TOGETHER, ids=str)
def test_the_mean_of_the_workers_gradients_is_that_of_one(case: Case) -> None:
    # parts of different size, with labels that are there in different number
    batch = case.batch(lengths=(3, 5, 2, 4, 6), unlabelled=0.3).map(_double)
    parts = [batch.map(lambda x, k=k: x[k::2]) for k in range(2)]  # type: ignore[misc]
    expected = _gradient(_model(case), batch)
    # built here, since random numbers are drawn for it
    mine = [(_model(case), part) for part in parts]
    found = _at_once([lambda both=both: _gradient(*both) for both in mine])  # type: ignore[misc]
    torch.testing.assert_close(torch.stack(found).mean(dim=0), expected, rtol=1e-9, atol=1e-12)


def test_what_cannot_be_shared_is_known() -> None:
    apart = {case.model for case in NETWORKS} - {case.model for case in TOGETHER}
    assert apart == {"misa", "cdbn", "mmim", "self_mm"}


def test_means_and_sums() -> None:
    total, count = torch.tensor(6.0), torch.tensor(3)
    assert mean_over(total, count) == 2.0
    assert mean_over(total, torch.tensor(0)) == 6.0
    given = [(torch.tensor(6.0), torch.tensor(3)), (torch.tensor(1.0), torch.tensor(1))]
    means = _at_once([lambda pair=pair: mean_over(*pair) for pair in given])  # type: ignore[misc]
    assert sum(means) / 2 == 7 / 4

    def slope(value: float) -> Tensor:
        x = torch.tensor(value, requires_grad=True)
        (sum_over(x) ** 2).backward()
        assert x.grad is not None
        return x.grad

    # both see (3 + 4) squared, which counts twice in what they want together
    assert [float(x) for x in _at_once([lambda: slope(3.0), lambda: slope(4.0)])] == [28.0, 28.0]

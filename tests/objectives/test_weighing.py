import math

import pytest
import torch

from affectus.labels import emotions_scheme, sentiment_scheme
from affectus.objectives import choose_tasks
from affectus.objectives.weighing import UncertaintyWeights, loss_weights, project_conflicts, surgery

TASKS = choose_tasks(["polarity", "intensity"], {"sentiment": sentiment_scheme(), "emotions": emotions_scheme()})


def test_uncertainty_is_the_papers_formula() -> None:
    weigh = UncertaintyWeights(TASKS)
    with torch.no_grad():
        weigh.log_variances["polarity"].fill_(0.4)
        weigh.log_variances["intensity"].fill_(-1.0)
    total = weigh({"polarity": torch.tensor(2.0), "intensity": torch.tensor(3.0), "other": torch.tensor(5.0)})
    expected = math.exp(-0.4) * 2 + 0.2 + 0.5 * math.exp(1.0) * 3 - 0.5 + 5
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_uncertainty_settles_where_the_formula_says() -> None:
    # d/ds (exp(-s) L + s / 2) = 0 at s = log(2 L)
    weigh = UncertaintyWeights(TASKS[:1])
    optimizer = torch.optim.Adam(weigh.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        weigh({"polarity": torch.tensor(0.7)}).backward()
        optimizer.step()
    assert weigh.log_variances["polarity"].item() == pytest.approx(math.log(1.4), abs=1e-2)


def test_gradients_that_agree_are_added() -> None:
    gradients = torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]])
    assert torch.equal(project_conflicts(gradients), gradients.sum(dim=0))


def test_no_task_loses_to_another_of_two() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        gradients = torch.randn(2, 5, generator=generator)
        combined = project_conflicts(gradients, generator)
        assert (gradients @ combined >= -1e-5).all()


def test_surgery_equals_backward_where_nothing_conflicts() -> None:
    layer = torch.nn.Linear(3, 2)
    x = torch.ones(4, 3)
    losses = [layer(x)[:, 0].sum(), layer(x)[:, 1].sum()]
    surgery(losses, list(layer.parameters()))
    found = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    layer(x).sum().backward()
    assert all(torch.allclose(f, p.grad) for f, p in zip(found, layer.parameters(), strict=True) if p.grad is not None)


def test_every_loss_of_a_task_weighs_as_the_task() -> None:
    tasks = choose_tasks(["polarity:0.5", "intensity:3"], {"sentiment": sentiment_scheme()})
    names = ("polarity", "intensity", "intensity.text", "polarity.fused.again", "difference", "intensity_of_another")
    assert loss_weights(tasks, names) == dict(zip(names, (0.5, 3.0, 3.0, 0.5, 1.0, 1.0), strict=True))

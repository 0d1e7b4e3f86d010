"""What training does not import."""

import subprocess
import sys

import pytest

WITHOUT = """
import sys
import torch
from affectus.training.optional import without_unused
with without_unused():
    from lightning.pytorch import Trainer
from lightning.fabric.wrappers import OptimizedModule
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.Adam(model.parameters(), fused=True)
before = model.weight.clone()
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
optimizer.zero_grad()
assert (model.weight != before).all() and model.weight.grad is None
assert "sympy" not in sys.modules and "torch._dynamo.config" not in sys.modules
assert not isinstance(model, OptimizedModule)
"""
WITH = """
import torch._dynamo.config
assert "sympy" in sys.modules and torch._dynamo.config is sys.modules["torch._dynamo.config"]
assert not isinstance(model, OptimizedModule)
compiled = torch.compile(model, backend="eager")
assert isinstance(compiled, OptimizedModule)
assert torch.equal(compiled(torch.ones(1, 2)), model(torch.ones(1, 2)))
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
"""


def run(script: str) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_compiler_stays_away() -> None:
    run(WITHOUT)


@pytest.mark.slow
def test_the_compiler_comes_when_it_is_used() -> None:
    run(WITHOUT + WITH)

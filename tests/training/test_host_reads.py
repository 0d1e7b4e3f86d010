"""What of a training step waits for the device: where a number is read from it, or a shape depends on its values."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import affectus
from affectus.models import MODELS, Model
from affectus.nn.kernels import no_kernels
from affectus.nn.normalization import MaskedBatchNorm
from affectus.nn.together import together
from affectus.testing import Case, cases
from affectus.training.config import TrainingSettings
from affectus.training.module import FitModule, build_optimizer

ROOT = Path(affectus.__file__).parent
NETWORKS = [case for case in cases() if issubclass(MODELS[case.model].build, Model)]
READING = {Tensor.tolist, Tensor.item, Tensor.cpu, Tensor.numpy, Tensor.__bool__, Tensor.__int__, Tensor.__float__}
SHAPED = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}


def _place() -> str:
    """The innermost line of affectus that is being run, as file and function."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT):
            return f"{path.relative_to(ROOT)}:{frame.name}"
    return "outside"


class _Operations(TorchDispatchMode):
    def __init__(self, found: set[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            isinstance(x, Tensor) and x.dtype is torch.bool for x in args[1]
        )
        counted = func is torch.ops.aten.repeat_interleave.Tensor and (kwargs or {}).get("output_size") is None
        if name in SHAPED or by_mask or counted:
            self.found.add(_place())
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    def __init__(self, found: set[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READING:
            self.found.add(_place())
        return func(*args, **(kwargs or {}))


def reads(run: Callable[[], object]) -> set[str]:
    """Return where a computation reads from the device."""
    found: set[str] = set()
    with _Calls(found), _Operations(found):
        run()
    return found


def _step(case: Case) -> set[str]:
    model = case.build()
    assert isinstance(model, Model)
    model.train()
    stage = model.stages()[-1]
    model.stage = stage.name
    settings = TrainingSettings(clip=1.0)
    fit = FitModule(model, stage, 0, settings, 0, None, None)  # type: ignore[arg-type]
    groups = [(name, group, list(group.parameters)) for name, group in stage.groups.items()]
    optimizer = build_optimizer(groups, settings)
    batch = case.batch(unlabelled=0.1)

    def run() -> None:
        output = model(batch)
        losses = model.losses(output, batch)
        total = fit._weighed(losses)
        fit._remember(batch, {"loss": total, **losses})
        model.on_batch_end(output, batch)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    with no_kernels():  # which are for the processor alone
        return reads(run)


def test_what_is_found() -> None:
    x = torch.arange(4.0)
    mask = x > 1
    for run in (
        lambda: x.sum().item(), lambda: x.tolist(), lambda: bool(mask.any()), lambda: int(x[1]), lambda: x[mask],
        lambda: mask.nonzero(), lambda: x.clone().index_put_((mask,), torch.zeros(2)), lambda: x.unique(),
        lambda: torch.equal(x, x), lambda: x.repeat_interleave(mask.long()), lambda: x.masked_select(mask),
    ):  # fmt: skip
        assert reads(run)  # type: ignore[arg-type]
    for run in (lambda: x + 1, lambda: x[1:], lambda: x[torch.tensor([1])], lambda: x.where(mask, 0.0)):
        assert not reads(run)


NOTHING = {"bc_lstm", "blanchard", "cdbn", "edm", "hazarika_sa", "mmmu_ba", "mtmm_es"}
"""Models whose step reads nothing."""
LENGTHS = "how many steps are real, so that padding costs nothing"
BRANCH = "whether a costly part is needed at all"
MEMORY = "which utterances are remembered"
ALLOWED = {
    "nn/packing.py:sizes": LENGTHS,
    "nn/packing.py:index": LENGTHS,
    "nn/masking.py:to_front": LENGTHS,
    "nn/stepping.py:in_step": LENGTHS,
    "nn/systems.py:forward": LENGTHS,
    "nn/masking.py:in_front": "which steps are real; not on a GPU",
    "models/ef_lstm.py:_all_are_there": "which steps are real; not on a GPU",
    "nn/normalization.py:forward": "which rows are real; not on a GPU, see below",
    "nn/crossmodal.py:forward": BRANCH,
    "models/mmim.py:_contrast": BRANCH,
    "models/mmim.py:on_batch_end": MEMORY,
    "models/signed.py:of_target": MEMORY,
    "models/self_mm.py:<dictcomp>": MEMORY,
    "models/self_mm.py:_made": MEMORY,
    "models/self_mm.py:on_batch_end": MEMORY,
    "nn/table.py:write": MEMORY,
    "nn/table.py:push": MEMORY,
    "outside": "the gradient of what a mask has chosen, where it was read going forward",
}
"""Where a step may read, and what; docs/how-to/gpu.md tells it by model."""


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_a_step_reads_what_is_told_and_no_more(case: Case) -> None:
    found = _step(case)
    assert found <= ALLOWED.keys()
    if case.model in NOTHING:
        assert not found


class _Alone:
    workers = 1

    def add(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("real", [(True, False, True, True), (True, False, False, False)])
def test_normalisation_as_on_a_gpu_reads_nothing(real: tuple[bool, ...]) -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(4, 3), torch.tensor(real)
    ways = []
    for others in (None, _Alone()):
        norm = MaskedBatchNorm(3)
        given = x.clone().requires_grad_()

        def run(norm: MaskedBatchNorm = norm, given: Tensor = given) -> None:
            (norm(given, mask) ** 3).sum().backward()

        with together(others):
            assert bool(reads(run)) is (others is None)
        assert given.grad is not None
        ways.append([given.grad, *(p.grad for p in norm.parameters()), *norm.buffers()])
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(other, one)

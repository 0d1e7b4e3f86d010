"""Training with a compiled network: ``torch.compile`` makes kernels of what a training step computes.

Only the network of a training step is compiled, forward and backward. Losses, the optimiser, validation and prediction
stay as they are, and so do the weights and their names. What is compiled is the network's plain form
(:mod:`affectus.nn.tracing`), for any batch size and any length; recurrences stay out of it and run as always.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from affectus.batches import Batch
from affectus.errors import AffectusError
from affectus.models import Model, ModelOutput
from affectus.nn.normalization import MaskedBatchNorm
from affectus.objectives import Weighing
from affectus.training.config import Compile, RunConfig
from affectus.vocabulary import View

Network = Callable[[Batch], ModelOutput]
Found = TypeVar("Found")
RECURRENT = frozenset({"ef_lstm", "mfn", "graph_mfn", "marn", "mv_lstm"})
"""Models that are a recurrence from end to end."""
_WORKING: dict[str, str] = {}  # by kind of device, what was found to work there
BACKEND = "inductor"
"""Of ``torch.compile``."""
FORMS = 32
"""How many compiled forms a function may have, for instance one of each layer; beyond that it runs as it is."""


def check_compile(config: RunConfig, device: torch.device, *, workers: int, stacked: bool) -> None:
    """Check that a run's network can be compiled as its setting asks for, by compiling something small.

    Args:
        config: of the run; its model is trained by gradient.
        device: where it is trained.
        workers: how many train together.
        stacked: the seeds are trained as one model.

    Raises:
        AffectusError: it cannot.
    """
    mode = config.training.compile
    if mode is Compile.OFF:
        return
    reasons = (
        (config.model in RECURRENT, "it is a recurrence from end to end, and recurrences are left out", ""),
        (workers > 1, "several workers train it together", ", or --devices and --workers"),
        (stacked, "its seeds are trained as one model", ", or --stacked"),
    )
    for holds, reason, other in reasons:
        if holds:
            raise AffectusError(
                f"The network of the model {config.model!r} cannot be compiled",
                got=reason,
                remedy=f"Leave compile out{other}",
            )
    if mode is Compile.REDUCE_OVERHEAD:
        _check_graphs(config, device)
    _check_compiler(device)


def _check_graphs(config: RunConfig, device: torch.device) -> None:
    """Check that every step of a run is of one shape, on a GPU."""
    settings = config.training
    got = None
    if device.type != "cuda":
        got = f"a training on the {device.type}"
    elif config.view is not View.CONTEXTUAL or settings.pad_to is None:
        got = f"the view {str(config.view)!r}, pad_to={settings.pad_to}"
    elif settings.accumulate > 1 or settings.weighing is Weighing.PCGRAD:
        got = f"accumulate={settings.accumulate}, weighing={settings.weighing}"
    if got is not None:
        raise AffectusError(
            "The setting 'compile' cannot be 'reduce-overhead' here, which records a step as a CUDA graph",
            got=got,
            expected="a GPU, the contextual view with pad_to, and one backward pass for each step",
            remedy="Set compile=default",
        )


def _check_compiler(device: torch.device) -> None:
    """Check that PyTorch finds what it compiles with, and that it works."""
    if device.type in _WORKING and _WORKING[device.type] == BACKEND:
        return
    absent = None
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            absent = "no Triton that works with this GPU"
    elif not any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++", "c++") if name):
        absent = "no C++ compiler"
    if absent is None:
        try:
            # which also finds headers that are absent, a folder that is not writable, and a GPU that is too old
            small = torch.compile(_small, backend=BACKEND)
            torch.autograd.backward(_twice(lambda: small(torch.ones(2, device=device, requires_grad=True))))
        except Exception as error:
            absent = _reason(error)
    if absent is not None:
        raise AffectusError(
            "PyTorch cannot compile a network here",
            where="the setting 'compile'",
            got=absent,
            expected="Triton and a C compiler" if device.type == "cuda" else "a C++ compiler such as g++",
            remedy="Install it, or leave compile out",
        )
    _WORKING[device.type] = BACKEND


def _small(x: torch.Tensor) -> torch.Tensor:
    return (x.sin() * x).sum()


@contextmanager
def compiled(model: Model, mode: Compile, device: torch.device) -> Iterator[Network | None]:
    """Yield what a training step calls in place of a model, which within the block is compiled when it is first called.

    Args:
        model: whose weights, buffers and names stay where they are.
        mode: off yields None.
        device: where it is trained.

    Raises:
        AffectusError: what was compiled failed.
    """
    if mode is Compile.OFF:
        yield None
        return
    from torch._dynamo import config, reset
    from torch._functorch import config as of_gradients
    from torch.fx.experimental import _config as of_shapes

    # forms of other models, whose places would be missing
    reset()
    with (
        _kept_apart(model, device),
        config.patch(recompile_limit=FORMS),
        of_gradients.patch(donated_buffer=False),  # surgery takes a gradient several times
        of_shapes.patch(use_duck_shape=False),  # type: ignore[attr-defined]  # lengths that happen to be alike are no rule
    ):
        fixed = mode is Compile.REDUCE_OVERHEAD
        # of any size at once, where PyTorch would first compile for the sizes that it meets
        how: dict[str, Any] = {"mode": "reduce-overhead", "dynamic": False} if fixed else {"dynamic": True}

        def run(batch: Batch) -> ModelOutput:
            output: ModelOutput = model(batch)
            return output

        network = torch.compile(run, backend=BACKEND, **how)

        def step(batch: Batch) -> ModelOutput:
            if fixed:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            output: ModelOutput = _twice(lambda: network(batch))
            return output

        try:
            yield step
        except (AssertionError, RuntimeError) as error:
            again = "Run the command again, or leave" if _removed_headers(error) else "Leave"
            raise AffectusError(
                "A step of the compiled network failed",
                got=_reason(error),
                remedy=f"{again} compile out, with another --out folder",
            ) from error
    reset()


def _twice(compute: Callable[[], Found]) -> Found:
    """Compute what is compiled at its first call, once more if a precompiled header was in the way."""
    try:
        return compute()
    except RuntimeError as error:
        if not _removed_headers(error):
            raise
    return compute()


def _removed_headers(error: Exception) -> bool:
    """Remove precompiled headers if the C++ compiler could not read one; True if so.

    PyTorch keeps them for all processes and lets the compiler write them in their place: of one that was killed a part
    is left, over which every later one stumbles. The compiler does without one that is not there.
    """
    text = str(error)
    folder = re.search(r"-include (\S+/precompiled_headers)/", text)
    if folder is None or "PCH" not in text:
        return False
    for header in Path(folder[1]).glob("*.gch"):
        header.unlink(missing_ok=True)
    from torch._inductor.utils import clear_caches

    clear_caches()  # which keep the failure
    return True


def _reason(error: Exception) -> str:
    """Tell an exception's kind and first line, and the first complaint of a compiler, which stands further below."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    complaints = (re.search(r"\berror: (.+)", line) for line in lines[1:])
    complaint = next((f": {found[1].rstrip(' .')}" for found in complaints if found), "")
    return f"{type(error).__name__}: {lines[0]}{complaint}"


@contextmanager
def _kept_apart(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let the compiler leave alone, within the block, what in a model is marked by ``affectus.nn.tracing.apart``."""
    with ExitStack() as stack:
        for kind in {base for part in model.modules() for base in type(part).__mro__}:
            for name, method in list(vars(kind).items()):
                cuts = kind is MaskedBatchNorm and name == "forward" and device.type == "cpu"  # it cuts out real rows
                if cuts or getattr(method, "apart", False):
                    stack.callback(setattr, kind, name, method)
                    setattr(kind, name, torch.compiler.disable(method))  # type: ignore[no-untyped-call]
        yield

"""Networks as tracers and batching transforms can take them: no shape that depends on a value, no gradient of our own.

A recurrence is fast on a CPU because padding is cut out and because its gradient is written out. Neither can be
exported to ONNX, nor be computed for several sets of weights at once by ``torch.vmap``. In plain form, padding stays, a
masked step leaves the state as it is, and PyTorch derives the gradient: the same results, but for rounding.

What ``torch.compile`` compiles is in plain form too, but for what is marked by :func:`apart`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

from affectus.nn.precision import in_full

State = tuple[Tensor, ...]
Stepped = tuple[State, State]
"""The state after a step, and what is given out; of a recurrence, those after the last step and of all steps."""
Step = Callable[[State, State], Stepped]
"""From the state before and what enters at a step to the state after and what is given out."""
AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
_PLAIN: ContextVar[bool] = ContextVar("plain", default=False)


def exporting() -> bool:
    """True while ``torch.export`` traces a network."""
    return bool(torch.compiler.is_exporting())


def is_plain() -> bool:
    """True where a network has to run in plain form: while it is exported or compiled, and within :func:`plain`."""
    # the compiler knows what the first says, and cannot look into the second
    return torch.compiler.is_compiling() or _PLAIN.get()


def apart(method: AnyFunction) -> AnyFunction:
    """Mark a module's method that runs as it is in the midst of a network that ``torch.compile`` compiles.

    For recurrences: a compiled one would be as many copies of a step as there are steps, made anew for each length,
    where a GPU has cuDNN and a CPU a gradient that is written out.
    """
    method.apart = True  # type: ignore[attr-defined]
    return method


def reads_are_dear(x: Tensor) -> bool:
    """True where what is computed should not depend on a value: in plain form, or where a GPU would be waited for."""
    return is_plain() or x.is_cuda


@contextmanager
def plain() -> Iterator[None]:
    """Let networks run in plain form within the block."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def run_steps(step: Step, state: Sequence[Tensor], entering: Sequence[Tensor]) -> Stepped:
    """Go through the steps of a recurrence: a loop, or, while exporting, one operation for any number of steps.

    Args:
        step: of the recurrence; it may use tensors from outside, such as weights.
        state: before the first step.
        entering: per step, each (T, ...).

    Returns:
        The state after the last step, and what was given out at each step, each (T, ...).
    """
    if exporting():
        from torch._higher_order_ops.scan import scan

        def body(before: list[Tensor], now: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            after, given = step(tuple(before), tuple(now))
            # what is carried and what is given out must not be one tensor
            return list(after), [x.clone() for x in given]

        last, all_given = scan(body, [x.clone() for x in state], list(entering))
        return tuple(last), tuple(all_given)

    def loop(*given: Tensor) -> Stepped:
        after, outputs = given[: len(state)], []
        for now in zip(*(x.unbind(0) for x in given[len(state) :]), strict=True):
            after, said = step(after, now)
            outputs.append(said)
        return after, tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))

    found: Stepped = in_full(loop, *state, *entering)
    return found

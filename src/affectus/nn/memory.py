"""The multi-view gated memory of MFN (Zadeh et al. 2018), which Graph-MFN has too."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from affectus.nn.dropping import Dropout, draw_factors
from affectus.nn.kernels import Arrays, kernels_for, through
from affectus.nn.matmul import Linear, linear, matmul
from affectus.nn.packing import Packing, steps_before
from affectus.nn.precision import in_full
from affectus.nn.tracing import State, run_steps


class GatedMemory(nn.Module):
    """A memory that a retain gate keeps and an update gate writes to, step by step.

    What depends on the present step alone is done for all steps at once. What depends on the memory before is done step
    by step, its gradient written out.

    Args:
        dim: width of what is seen at each step.
        size: of the memory.
        candidate: width inside the network that says what could be written.
        retain: width inside the network of the retain gate.
        update: width inside the network of the update gate.
        candidate_dropout: share dropped inside the first network.
        retain_dropout: inside the second.
        update_dropout: inside the third.
    """

    def __init__(
        self,
        dim: int,
        size: int,
        *,
        candidate: int,
        retain: int,
        update: int,
        candidate_dropout: float,
        retain_dropout: float,
        update_dropout: float,
    ) -> None:
        super().__init__()
        self.candidate = nn.Sequential(
            Linear(dim, candidate), nn.ReLU(), Dropout(candidate_dropout), Linear(candidate, size), nn.Tanh()
        )
        self.retain_in, self.retain_out = Linear(dim + size, retain), Linear(retain, size)
        self.update_in, self.update_out = Linear(dim + size, update), Linear(update, size)
        self.dropouts = (retain_dropout, update_dropout)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Map packed rows (N, dim) to the memory after each of them (N, size)."""
        dim = rows.shape[1]
        inner = torch.cat([self.retain_in.weight, self.update_in.weight])
        seen = linear(rows, inner[:, :dim], torch.cat([self.retain_in.bias, self.update_in.bias]))
        keep = None
        if self.training and any(self.dropouts):
            layers = (self.retain_in, self.update_in)
            keep = torch.cat(
                [
                    draw_factors(rows.new_empty(len(rows), layer.out_features), share)
                    for layer, share in zip(layers, self.dropouts, strict=True)
                ],
                dim=1,
            )
        if packing.padded:
            return self._plain(seen, self.candidate(rows), inner[:, dim:], keep, packing)
        found: Tensor = in_full(
            _Steps.apply,
            seen,
            self.candidate(rows),
            inner[:, dim:],
            self.retain_out.weight,
            self.retain_out.bias,
            self.update_out.weight,
            self.update_out.bias,
            keep,
            packing.sizes,
        )
        return found

    def _plain(self, seen: Tensor, candidate: Tensor, inner: Tensor, keep: Tensor | None, packing: Packing) -> Tensor:
        """What :class:`_Steps` does, over padded rows."""
        widths = [self.retain_in.out_features, self.update_in.out_features]

        def step(before: State, now: State) -> tuple[State, State]:
            entering, offered, real, *kept = now
            hidden = torch.relu(entering + before[0] @ inner.T)
            retain, update = torch.split(hidden * kept[0] if kept else hidden, widths, dim=-1)
            after = torch.sigmoid(self.retain_out(retain)) * before[0]
            after = torch.where(real, after + torch.sigmoid(self.update_out(update)) * offered, before[0])
            return (after,), (after,)

        entering = [packing.by_step(seen), packing.by_step(candidate), packing.real]
        if keep is not None:
            entering.append(packing.by_step(keep))
        start = candidate.new_zeros(packing.mask.shape[0], candidate.shape[1])
        return run_steps(step, (start,), entering)[1][0].flatten(0, 1)


class _Course(NamedTuple):
    """What a memory goes through, for the gradient.

    Attributes:
        candidate: (N, size).
        inner: (R + U, size).
        retain: (size, R).
        update: (size, U).
        keep: (N, R + U) what dropout multiplies with; None for 1.
        hidden: (N, R + U) what enters the relu; afterwards what the gates' products read.
        gates: (N, 2 * size).
        memory: (N, size).
        sizes: rows of each step.
    """

    candidate: Tensor
    inner: Tensor
    retain: Tensor
    update: Tensor
    keep: Tensor | None
    hidden: Tensor
    gates: Tensor
    memory: Tensor
    sizes: list[int]

    @property
    def widths(self) -> tuple[int, int, int]:
        """Of the memory, of all that its gates read, and of what the first of them reads."""
        return self.retain.shape[0], self.hidden.shape[1], self.retain.shape[1]


class _Steps(torch.autograd.Function):
    """All steps of the memory over packed rows, with a gradient that is written out.

    Per step, where s is what the gates' networks made of the present step:

        r, u = the two parts of d relu(s + V m)
        m' = sigmoid(A r + a) m + sigmoid(B u + b) c
    """

    @staticmethod
    def forward(
        ctx: Any,
        seen: Tensor,
        candidate: Tensor,
        inner: Tensor,
        retain: Tensor,
        retain_bias: Tensor,
        update: Tensor,
        update_bias: Tensor,
        keep: Tensor | None,
        sizes: list[int],
    ) -> Tensor:
        """Run.

        Args:
            ctx: keeps what the gradient needs.
            seen: (N, R + U), s.
            candidate: (N, size), c.
            inner: (R + U, size), V.
            retain: (size, R), A.
            retain_bias: (size,), a.
            update: (size, U), B.
            update_bias: (size,), b.
            keep: (N, R + U), d: what dropout multiplies with; None for 1.
            sizes: rows of each step.

        Returns:
            (N, size) the memory.
        """
        size, first = retain.shape
        memory = torch.empty_like(candidate)
        hidden = seen.clone()  # turned into r and u step by step
        gates = seen.new_empty(len(seen), 2 * size)
        bias = torch.cat([retain_bias, update_bias])
        ctx.save_for_backward(candidate, inner, retain, update, keep, hidden, gates, memory)
        ctx.sizes = sizes
        if (kernels := kernels_for(candidate)) is not None:
            _forward_compiled(
                kernels, _Course(candidate, inner, retain, update, keep, hidden, gates, memory, sizes), bias
            )
            return memory
        to_hidden, to_retain, to_update = (matrix.T.contiguous() for matrix in (inner, retain, update))
        keeps = [None] * len(sizes) if keep is None else torch.split(keep, sizes)
        before: Tensor | None = None
        views = (
            hidden,
            *torch.split(hidden, [first, hidden.shape[1] - first], dim=1),
            gates,
            *torch.split(gates, size, dim=1),
        )
        for h, to_keep, to_write, g, kept, written, c, k, m in zip(
            *(torch.split(view, sizes) for view in views),
            torch.split(candidate, sizes),
            keeps,
            torch.split(memory, sizes),
            strict=True,
        ):
            if before is not None:
                before = before if len(before) == len(h) else before[: len(h)]
                h.addmm_(before, to_hidden)
            h.relu_()
            if k is not None:
                h.mul_(k)
            torch.mm(to_keep, to_retain, out=kept)
            torch.mm(to_write, to_update, out=written)
            g.add_(bias).sigmoid_()
            torch.mul(written, c, out=m)
            if before is not None:
                m.addcmul_(kept, before)
            before = m
        return memory

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the steps."""
        candidate, inner, retain, update, keep, hidden, gates, memory = ctx.saved_tensors
        course = _Course(candidate, inner, retain, update, keep, hidden, gates, memory, ctx.sizes)
        size, _, first = course.widths
        previous = steps_before(memory, course.sizes)
        if (kernels := kernels_for(hidden)) is None:
            slopes, grad_hidden, grad_candidate = _backward(course, previous, grad)
        else:
            slopes, grad_hidden, grad_candidate = _backward_compiled(kernels, course, grad)
        return (
            grad_hidden,
            grad_candidate,
            matmul(grad_hidden.T, previous),
            matmul(slopes[:, :size].T, hidden[:, :first]),
            slopes[:, :size].sum(dim=0),
            matmul(slopes[:, size:].T, hidden[:, first:]),
            slopes[:, size:].sum(dim=0),
            None,
            None,
        )


def _forward_compiled(kernels: Any, course: _Course, bias: Tensor) -> None:
    """All steps, by the kernels: fills gates and memory, and turns what enters the relu into r and u."""
    size, width, first = course.widths
    arrays = Arrays(
        "memory",
        *(size, width),
        hidden=course.hidden,
        keep=course.keep,
        gates=course.gates,
        bias=bias,
        candidate=course.candidate.contiguous(),
        memory=course.memory,
    )
    weights = [matrix.T for matrix in (course.inner, course.retain, course.update)]
    through(kernels, "memory", arrays, course.sizes, weights, first)


def _backward_compiled(kernels: Any, course: _Course, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`_backward` does, by the kernels."""
    size, width, first = course.widths
    slopes, grad_hidden, grad_candidate = map(torch.empty_like, (course.gates, course.hidden, course.memory))
    arrays = Arrays(
        "memory",
        *(size, width),
        hidden=course.hidden,
        keep=course.keep,
        gates=course.gates,
        candidate=course.candidate.contiguous(),
        memory=course.memory,
        slopes=slopes,
        of_hidden=grad_hidden,
        of_candidate=grad_candidate,
        given=grad.contiguous(),
        carried=grad.new_zeros(course.sizes[0] if course.sizes else 0, size),
    )
    weights = [course.inner, course.retain, course.update]
    through(kernels, "memory_back", arrays, course.sizes, weights, first, len(slopes))
    return slopes, grad_hidden, grad_candidate


def _backward(course: _Course, previous: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of what enters the gates (N, 2 * size), of what enters the relu, and of the candidates."""
    candidate, inner, retain, update, keep, hidden, gates, memory, sizes = course
    size, _, first = course.widths
    # at first of each gate by the memory, then the gradient of what enters the sigmoids
    slopes = gates * (1 - gates)
    slopes[:, :size].mul_(previous)
    slopes[:, size:].mul_(candidate)
    passes = (hidden > 0).to(hidden) if keep is None else (hidden > 0) * keep
    grad_hidden = torch.empty_like(hidden)
    grad_memory = torch.empty_like(memory)
    carried = memory.new_zeros(sizes[0] if sizes else 0, size)
    rest = hidden.shape[1] - first
    views = (
        *(slopes.view(len(slopes), 2, size), *torch.split(slopes, size, dim=1)),
        *(grad_hidden, *torch.split(grad_hidden, [first, rest], dim=1)),
        *(grad_memory, grad, passes, gates[:, :size]),
    )
    for both, to_keep, to_write, of_hidden, kept, written, of_memory, given, pass_, gate in reversed(
        list(zip(*(torch.split(view, sizes) for view in views), strict=True))
    ):
        count = len(both)
        torch.add(carried[:count], given, out=of_memory)
        both.mul_(of_memory.unsqueeze(1))
        torch.mm(to_keep, retain, out=kept)
        torch.mm(to_write, update, out=written)
        of_hidden.mul_(pass_)
        torch.addmm(of_memory * gate, of_hidden, inner, out=carried[:count])
    return slopes, grad_hidden, grad_memory.mul_(gates[:, size:])

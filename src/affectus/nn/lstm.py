"""LSTMs over the real steps of padded sequences: PyTorch's layer, its steps and their gradient written out.

On a CPU PyTorch's own layer goes through padding, or, over packed sequences, takes a gradient that is slow for long
ones; and it keeps only the last of the cell's states, where memory fusion needs them all. Here padding costs nothing,
and every state and cell is there. ``affectus.nn.recurrent`` has the dropouts of Keras instead.

Where input and state are small, a step takes longer to begin than to compute. There PyTorch's layer over padded steps,
which oneDNN goes through in one call, is the faster one, in spite of the padding.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from affectus.nn.dropping import draw_factors
from affectus.nn.kernels import Arrays, kernels_for, through
from affectus.nn.matmul import matmul
from affectus.nn.packing import Packing, steps_before
from affectus.nn.precision import in_full
from affectus.nn.tracing import State, Stepped, apart, is_plain, run_steps

CHUNK = 16
"""Steps whose gates go backward together: few enough to stay in the processor's cache."""
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
SMALL = 128
"""Widths of input and state together up to which oneDNN's steps are faster in spite of their padding."""


class LSTM(nn.Module):
    """An LSTM whose masked steps are skipped, wherever they stand. Its weights are those of ``torch.nn.LSTM``.

    Args:
        dim: width of the input.
        hidden: size of the state per direction.
        layers: one upon the other.
        dropout: share of each layer's output dropped, but the last one's.
        bidirectional: go backward too.
    """

    def __init__(
        self, dim: int, hidden: int, *, layers: int = 1, dropout: float = 0.0, bidirectional: bool = False
    ) -> None:
        super().__init__()
        # PyTorch warns of a dropout that has no place
        drop = dropout if layers > 1 else 0.0
        self.layer = nn.LSTM(dim, hidden, layers, dropout=drop, bidirectional=bidirectional)

    @property
    def width(self) -> int:
        """Width of the output."""
        return self.layer.hidden_size * (2 if self.layer.bidirectional else 1)

    @apart
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Run over the real steps.

        Args:
            x: (B, T, dim).
            mask: (B, T) bool, True for real steps.

        Returns:
            (B, T, width): the forward state, then the backward one; zero where masked.
        """
        packing = Packing(mask)
        return packing.unpack(self.rows(packing.pack(x), packing))

    @apart
    def last(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return where each direction of the last layer ends (B, width), zero for a sample without a real step."""
        packing = Packing(mask)
        return self.last_of(self.rows(packing.pack(x), packing), packing)

    def last_of(self, rows: Tensor, packing: Packing) -> Tensor:
        """Return where each direction ends (B, width), from what :meth:`rows` returned."""
        if not self.layer.bidirectional:
            return packing.last(rows)
        forward, backward = rows.chunk(2, dim=-1)
        return torch.cat([packing.last(forward), packing.first(backward)], dim=-1)

    def rows(self, rows: Tensor, packing: Packing, affine: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map packed rows (N, dim) to (N, width).

        Args:
            rows: (N, dim).
            packing: of them.
            affine: what each row is multiplied with first, and what is added to it, each (N,).
        """
        if affine is not None and (rows.is_cuda or packing.padded or self._is_small(rows, packing)):
            scale, shift = affine
            rows, affine = torch.addcmul(shift.unsqueeze(1), rows, scale.unsqueeze(1)), None
        if rows.is_cuda and not is_plain() and len(rows):
            sizes = torch.tensor(packing.sizes)
            found: Tensor = in_full(lambda x: self.layer(PackedSequence(x, sizes))[0].data, rows)
            return found
        for layer in range(self.layer.num_layers):
            if layer and self.layer.dropout:
                rows = rows * draw_factors(rows, self.layer.dropout) if self.training else rows
            forward = self._states(rows, packing, f"l{layer}", affine)
            if self.layer.bidirectional:
                turned = None if affine is None else (affine[0][packing.turned], affine[1][packing.turned])
                backward = self._states(rows[packing.turned], packing, f"l{layer}_reverse", turned)
                forward = torch.cat([forward, backward[packing.turned]], dim=-1)
            rows, affine = forward, None
        return rows

    def cells(self, rows: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
        """Map packed rows (N, dim) to the states and the cells of the first layer forward, each (N, hidden)."""
        return self._direction(rows, packing, "l0")

    def _weights(self, suffix: str) -> tuple[Tensor, ...]:
        return tuple(getattr(self.layer, f"{name}_{suffix}") for name in WEIGHTS)

    def _is_small(self, rows: Tensor, packing: Packing) -> bool:
        """True where oneDNN's steps are the faster ones."""
        small = rows.shape[1] + self.layer.hidden_size <= SMALL
        return small and not packing.padded and bool(packing.sizes) and _is_for_onednn(rows)

    def _states(
        self, rows: Tensor, packing: Packing, suffix: str, affine: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """One direction of a layer."""
        if not self._is_small(rows, packing):
            return self._direction(rows, packing, suffix, affine)[0]
        found: Tensor = in_full(_in_blocks, rows, packing, *self._weights(suffix))
        return found

    def _direction(
        self, rows: Tensor, packing: Packing, suffix: str, affine: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        inner, recurrent, bias, recurrent_bias = self._weights(suffix)
        if packing.padded:
            return _plain(rows, inner, bias + recurrent_bias, recurrent, packing)
        found: tuple[Tensor, Tensor] = in_full(
            _Steps.apply, rows, inner, bias + recurrent_bias, recurrent, packing.sizes, *(affine or ())
        )
        return found


def lstm_with_dropout(
    rows: Tensor, inner: Tensor, bias: Tensor, recurrent: Tensor, keep: Tensor | None, sizes: list[int]
) -> Tensor:
    """Return the states (N, hidden) of an LSTM, some of its state dropped on the way into the gates, by the kernels.

    Args:
        rows: (N, dim) packed rows.
        inner: (4 * hidden, dim), the gates in PyTorch's order.
        bias: (4 * hidden,).
        recurrent: (4 * hidden, hidden).
        keep: (B, hidden), what the state is multiplied with, the longest sample first; None for 1.
        sizes: rows of each step.
    """
    found: tuple[Tensor, Tensor] = in_full(_Steps.apply, rows, inner, bias, recurrent, sizes, None, None, keep)
    return found[0]


def _is_for_onednn(rows: Tensor) -> bool:
    """True where PyTorch goes through padded steps in one call of oneDNN, whose gradient it has."""
    if kernels_for(rows) is not None:  # which are faster still
        return False
    single = rows.dtype in (torch.float32, torch.bfloat16)  # in bfloat16 it is made single precision first
    if not single or rows.device.type != "cpu":
        return False
    return torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call,no-any-return]


def _in_blocks(rows: Tensor, packing: Packing, *weights: Tensor) -> Tensor:
    """What :class:`_Steps` does, but for the cells, by PyTorch's layer over blocks of padded steps."""
    blocks = packing.blocks
    h = c = rows.new_zeros(1, blocks.samples[0], weights[1].shape[1])
    found = []
    for x in blocks.spread(rows):
        start = h[:, : x.shape[1]].contiguous(), c[:, : x.shape[1]].contiguous()
        # bias; one layer; no dropout; whether a gradient may be wanted; one direction; steps first
        y, h, c = torch.lstm(x, start, weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)
        found.append(y)
    return blocks.collect(found)


def _plain(rows: Tensor, inner: Tensor, bias: Tensor, recurrent: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """What :class:`_Steps` does, over padded rows (T * B, dim)."""
    gates = packing.by_step(torch.addmm(bias, rows, inner.T))  # (T, B, 4 * hidden)

    def step(before: State, now: State) -> Stepped:
        entering, real = now
        i, f, g, o = (entering + before[0] @ recurrent.T).chunk(4, dim=-1)
        cell = torch.sigmoid(f) * before[1] + torch.sigmoid(i) * torch.tanh(g)
        state = torch.sigmoid(o) * torch.tanh(cell)
        after = torch.where(real, state, before[0]), torch.where(real, cell, before[1])
        return after, after

    start = gates.new_zeros(gates.shape[1], recurrent.shape[1])
    _, (states, cells) = run_steps(step, (start, start), (gates, packing.real))
    return states.flatten(0, 1), cells.flatten(0, 1)


class _Course(NamedTuple):
    """What an LSTM goes through, for the gradient.

    Attributes:
        gates: (N, 4 * hidden) what enters the gates; afterwards their values.
        states: (N, hidden).
        cells: (N, hidden).
        squashed: (N, hidden) tanh of the cells.
        recurrent: (4 * hidden, hidden).
        keep: (B, hidden) what a state is multiplied with on its way into the gates; None for 1.
        sizes: rows of each step.
    """

    gates: Tensor
    states: Tensor
    cells: Tensor
    squashed: Tensor
    recurrent: Tensor
    keep: Tensor | None
    sizes: list[int]


class _Steps(torch.autograd.Function):
    """All steps of an LSTM over packed rows, with a gradient that is written out.

    Per step, with the gates in PyTorch's order:

        i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of (W (s x + t) + b + U h)
        c' = f c + i g
        h' = o tanh(c')
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        inner: Tensor,
        bias: Tensor,
        recurrent: Tensor,
        sizes: list[int],
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run.

        Args:
            ctx: keeps what the gradient needs.
            x: (N, dim) packed rows.
            inner: (4 * hidden, dim), W.
            bias: (4 * hidden,), b.
            recurrent: (4 * hidden, hidden), U.
            sizes: rows of each step.
            scale: (N,), s of each row; None for 1.
            shift: (N,), t of each row; None for 0.
            keep: (B, hidden), what h is multiplied with, the longest sample first; None for 1. For kernels alone.

        Returns:
            (N, hidden) the states, (N, hidden) the cells.
        """
        hidden = recurrent.shape[1]
        # filled with W x + b, and turned into the gates' values step by step
        product = None
        if scale is None or shift is None:
            gates = matmul(x, inner.T, bias)  # (N, 4 * hidden)
        else:
            product = matmul(x, inner.T)
            gates = torch.addcmul(torch.addr(bias, shift, inner.sum(dim=1)), product, scale.unsqueeze(1))
        states, cells = x.new_empty(len(x), hidden), x.new_empty(len(x), hidden)
        squashed = x.new_empty(len(x), hidden)  # tanh(c')
        ctx.save_for_backward(x, inner, recurrent, gates, states, cells, squashed, scale, shift, product, keep)
        ctx.sizes = sizes
        ctx.set_materialize_grads(False)  # mostly nobody looks at the cells
        if (kernels := kernels_for(x)) is not None:
            ctx.seen = _forward_compiled(kernels, _Course(gates, states, cells, squashed, recurrent, keep, sizes))
            return states, cells
        assert keep is None
        by_state = recurrent.T.contiguous()
        before: tuple[Tensor, Tensor] | None = None
        # each view of a step is made with those of all others: to make one takes as long as a small operation
        views = (gates, gates[:, : 2 * hidden], *torch.split(gates, hidden, dim=1), states, cells, squashed)
        for gate, both, enter, forget, candidate, leave, state, cell, tanh in zip(
            *(torch.split(view, sizes) for view in views), strict=True
        ):
            if before is not None:
                if len(before[0]) > len(gate):
                    before = before[0][: len(gate)], before[1][: len(gate)]
                gate.addmm_(before[0], by_state)
            both.sigmoid_()
            candidate.tanh_()
            leave.sigmoid_()
            torch.mul(enter, candidate, out=cell)
            if before is not None:
                cell.addcmul_(forget, before[1])
            torch.tanh(cell, out=tanh)
            torch.mul(leave, tanh, out=state)
            before = state, cell
        return states, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor | None, grad_cells: Tensor | None) -> tuple[Tensor | None, ...]:
        """Go back through the steps, some at a time."""
        x, inner, recurrent, gates, states, cells, squashed, scale, shift, product, keep = ctx.saved_tensors
        kernels = kernels_for(x)
        assert keep is None or kernels is not None
        course = _Course(gates, states, cells, squashed, recurrent, keep, ctx.sizes)
        if kernels is None:
            slopes = _backward(course, grad_states, grad_cells)
        else:
            slopes = _backward_compiled(kernels, course, grad_states, grad_cells)
        seen = steps_before(states, ctx.sizes) if keep is None else ctx.seen
        grad_bias, grad_recurrent = slopes.sum(dim=0), matmul(slopes.T, seen)
        grad_scale = grad_shift = shifted = None
        if product is not None:
            grad_scale, grad_shift = torch.linalg.vecdot(slopes, product), slopes @ inner.sum(dim=1)
            shifted = slopes.T @ shift
            slopes.mul_(scale.unsqueeze(1))
        grad_x = matmul(slopes, inner) if ctx.needs_input_grad[0] else None
        grad_inner = matmul(slopes.T, x)
        if shifted is not None:
            grad_inner += shifted.unsqueeze(1)
        return grad_x, grad_inner, grad_bias, grad_recurrent, None, grad_scale, grad_shift, None


def _forward_compiled(kernels: Any, course: _Course) -> Tensor | None:
    """All steps, by the kernels: fills what is empty, and turns what enters the gates into their values.

    Returns:
        With ``keep``, (N, hidden) the states as the products see them.
    """
    seen = None if course.keep is None else torch.zeros_like(course.states)
    arrays = Arrays(
        "lstm",
        course.states.shape[1],
        gates=course.gates,
        cells=course.cells,
        squashed=course.squashed,
        states=course.states,
        keep=course.keep,
        seen=seen,
    )
    through(kernels, "lstm", arrays, course.sizes, [course.recurrent.T])
    return seen


def _backward_compiled(kernels: Any, course: _Course, grad_states: Tensor | None, grad_cells: Tensor | None) -> Tensor:
    """What :func:`_backward` does, by the kernels."""
    hidden = course.states.shape[1]
    slopes = torch.empty_like(course.gates)
    carried = slopes.new_zeros(course.sizes[0] if course.sizes else 0, hidden)
    arrays = Arrays(
        "lstm",
        hidden,
        gates=course.gates,
        cells=course.cells,
        squashed=course.squashed,
        slopes=slopes,
        given=None if grad_states is None else grad_states.contiguous(),
        of_cells=None if grad_cells is None else grad_cells.contiguous(),
        carried=carried,
        carried_cell=torch.zeros_like(carried),
        keep=course.keep,
    )
    through(kernels, "lstm_back", arrays, course.sizes, [course.recurrent], len(slopes))
    return slopes


def _backward(course: _Course, grad_states: Tensor | None, grad_cells: Tensor | None) -> Tensor:
    """Return the gradient (N, 4 * hidden) of what enters the gates; the steps go back some at a time."""
    gates, _, cells, squashed, recurrent, _, sizes = course
    hidden = recurrent.shape[1]
    slopes = torch.empty_like(gates)  # at first of each gate by c' or h', then the gradient of W x + b + U h
    given = torch.split(torch.zeros_like(cells) if grad_states is None else grad_states, sizes)
    of_cells = [None] * len(sizes) if grad_cells is None else torch.split(grad_cells, sizes)
    state_grad = gates.new_zeros(sizes[0] if sizes else 0, hidden)
    cell_grad = torch.zeros_like(state_grad)
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    for end in range(len(sizes), 0, -CHUNK):
        begin = max(end - CHUNK, 0)
        part = slice(starts[begin], starts[end])
        i, f, g, o = torch.split(gates[part], hidden, dim=1)
        tanh, slope = squashed[part], slopes[part]
        to_i, to_f, to_g, to_o = torch.split(slope, hidden, dim=1)
        # x - x y in one operation each, and what two of them share once
        entering, kept, leaving = g * i, steps_before(cells, sizes, begin, end) * f, tanh * o
        torch.addcmul(entering, entering, i, value=-1, out=to_i)
        torch.addcmul(kept, kept, f, value=-1, out=to_f)
        torch.addcmul(i, entering, g, value=-1, out=to_g)
        torch.addcmul(leaving, leaving, o, value=-1, out=to_o)
        to_cell = torch.addcmul(o, leaving, tanh, value=-1)
        some = sizes[begin:end]
        of_gates = slope[:, : 3 * hidden].view(len(slope), 3, hidden)
        views = (slope, of_gates, to_o, to_cell, f)
        steps = zip(range(begin, end), *(torch.split(view, some) for view in views), strict=True)
        for step, whole, first, last, by_state, forget in reversed(list(steps)):
            size = len(whole)
            h, c = (state_grad, cell_grad) if size == len(state_grad) else (state_grad[:size], cell_grad[:size])
            if step == len(sizes) - 1:
                h.copy_(given[step])
            if (of_cell := of_cells[step]) is not None:
                c.add_(of_cell)
            c.addcmul_(h, by_state)
            first.mul_(c.unsqueeze(1))
            last.mul_(h)
            if not step:
                break
            c.mul_(forget)
            # the gradient of the state before: what comes from here, and what it was given by itself
            own = given[step - 1]
            if len(own) > size:
                state_grad[size : len(own)].copy_(own[size:])
                own = own[:size]
            torch.addmm(own, whole, recurrent, out=h)
    return slopes

"""Padded sequences as their real steps alone."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from affectus.nn.choosing import with_zero
from affectus.nn.packing import BLOCK_STEPS, Blocks, Packing

MASK = torch.tensor(
    [
        [True, True, False, True, False],  # a hole
        [False] * 5,
        [True] * 5,
        [False, False, True, False, False],
    ]
)


def test_rows_stand_as_in_torch_wherever_the_real_steps_were() -> None:
    packing = Packing(MASK)
    x = torch.arange(20.0).view(4, 5, 1)
    rows = packing.pack(x)
    front = torch.stack([torch.nn.functional.pad(a[m], (0, 0, 0, 5 - int(m.sum()))) for a, m in zip(x, MASK)])[
        [0, 2, 3]
    ]
    expected = pack_padded_sequence(front, torch.tensor([3, 5, 1]), batch_first=True, enforce_sorted=False)
    assert torch.equal(rows, expected.data)
    assert packing.sizes == expected.batch_sizes.tolist() == [3, 2, 2, 1, 1]
    assert packing.steps.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4]
    assert torch.equal(packing.unpack(rows), x.masked_fill(~MASK.unsqueeze(-1), 0.0))


def test_first_last_and_the_way_back() -> None:
    packing = Packing(MASK)
    rows = packing.pack(torch.arange(20.0).view(4, 5, 1))
    assert packing.first(rows).flatten().tolist() == [0, 0, 10, 17]
    assert packing.last(rows).flatten().tolist() == [3, 0, 14, 17]
    turned = packing.unpack(rows[packing.turned])[..., 0]
    assert turned[2].tolist() == [14, 13, 12, 11, 10]
    assert turned[0].tolist() == [3, 1, 0, 0, 0]
    assert torch.equal(packing.turned[packing.turned], torch.arange(len(rows)))


def test_the_latest_step_so_far() -> None:
    packing = Packing(MASK)
    rows = packing.pack(torch.arange(20.0).view(4, 5, 1))
    held = with_zero(rows)[packing.rows_of(MASK.cumsum(dim=1))][..., 0]
    assert held.tolist() == [[0, 1, 1, 3, 3], [0] * 5, [10, 11, 12, 13, 14], [0, 0, 17, 17, 17]]


@pytest.mark.parametrize("shape", [(2, 3), (1, 1)])
def test_nothing_at_all(shape: tuple[int, int]) -> None:
    packing = Packing(torch.zeros(shape, dtype=torch.bool))
    rows = packing.pack(torch.ones(*shape, 2))
    assert rows.shape == (0, 2)
    assert packing.sizes == []
    assert torch.equal(packing.unpack(rows), torch.zeros(*shape, 2))
    assert torch.equal(packing.last(rows), torch.zeros(shape[0], 2))
    assert packing.turned.shape == packing.steps.shape == (0,)


@pytest.mark.parametrize("sizes", [[3, 3, 1], [9] * BLOCK_STEPS + [8], [20] * (2 * BLOCK_STEPS) + [5, 1]])
def test_rows_in_blocks(sizes: list[int]) -> None:
    blocks = Blocks.of(sizes, torch.device("cpu"))
    rows = torch.arange(1.0, sum(sizes) + 1).unsqueeze(1)
    spread = blocks.spread(rows)
    assert torch.equal(blocks.collect(spread), rows)
    given = torch.split(rows.squeeze(1), sizes)
    for t, block in enumerate(spread):
        assert block.shape[1] % 8 == 0
        assert block.shape[1] - sizes[t * blocks.steps] < 8
        for step, row in enumerate(block.squeeze(2), start=t * blocks.steps):
            own = given[step].tolist() if step < len(sizes) else []
            assert row.tolist() == own + [0.0] * (len(row) - len(own))

"""A system of LSTMs against single cells, one utterance and one step after the other."""

import pytest
import torch
from torch import nn

from affectus.nn.choosing import choose
from affectus.nn.systems import LSTMSystem
from affectus.testing import make_batch
from affectus.vocabulary import View

DIMS = {"text": 6, "audio": 5}
SIZES = {"text": 4, "audio": 3}


def by_cells(system, features, masks, cells):
    """Per utterance: what stood before and after each step at which anything was there, and the last states."""
    single = {name: nn.LSTMCell(DIMS[name], size) for name, size in SIZES.items()}
    for name, cell in single.items():
        weights = system.layers[name].layer.state_dict()
        cell.load_state_dict({key.removesuffix("_l0"): x for key, x in weights.items()})
    before, now, last = [], [], []
    for b in range(len(masks["text"])):
        state = {name: (torch.zeros(size), torch.zeros(size)) for name, size in SIZES.items()}
        for t in range(masks["text"].shape[1]):
            shown = {name: pair[cells] for name, pair in state.items()}
            for name, cell in single.items():
                if masks[name][b, t]:
                    state[name] = cell(features[name][b, t], state[name])
            if any(mask[b, t] for mask in masks.values()):
                before.append((b, t, shown))
                now.append((b, t, {name: pair[cells] for name, pair in state.items()}))
        last.append(torch.cat([pair[0] for pair in state.values()]))
    return before, now, torch.stack(last)


@pytest.mark.parametrize("cells", [True, False])
@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_equals_single_cells_and_keeps_what_it_has_where_nothing_is(cells: bool, missing: float) -> None:
    torch.manual_seed(0)
    system = LSTMSystem(DIMS, SIZES, cells=cells)
    batch = make_batch(View.ALIGNED, dims=DIMS, lengths=(3, 5, 2, 4, 1), missing=missing, seed=2)
    if missing:
        batch.masks["audio"][1, 2] = batch.masks["text"][3, 0] = False  # holes
        batch.masks["text"][1, 0] = batch.masks["audio"][1, 0] = False  # and one of all modalities
        batch.masks["text"][2] = batch.masks["audio"][2] = False  # nothing at all
    seen = system(batch.features, batch.masks)
    before, now, last = by_cells(system, batch.features, batch.masks, int(cells))
    torch.testing.assert_close(seen.last, last)
    for name in DIMS:
        for choice, expected in ((seen.before[name], before), (seen.now[name], now)):
            rows = choose([choice])
            padded = seen.packing.unpack(rows)
            assert len(rows) == len(expected)
            for b, t, state in expected:
                torch.testing.assert_close(padded[b, t], state[name])
    both = torch.cat([choose([choice]) for choice in (*seen.before.values(), *seen.now.values())], dim=1)
    torch.testing.assert_close(seen.both(), both, rtol=0, atol=0)

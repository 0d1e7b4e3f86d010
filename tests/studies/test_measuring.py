import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from affectus.errors import AffectusError
from affectus.studies.cells import Cell
from affectus.studies.measuring import Cost, measure, peak_bytes, reset_peak, resident_bytes


def _hold_and_tell() -> tuple[int | None, ...]:
    reset_peak()
    before = resident_bytes()
    block = bytearray(64 * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])  # so that the system really gives the pages
    del block
    after = peak_bytes()
    reset_peak()
    return before, after, peak_bytes()


def test_the_peak_is_what_was_held() -> None:
    # in a process of its own: what other tests held is given back to the system at any time
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        before, after, again = pool.submit(_hold_and_tell).result()
    if before is None:
        pytest.skip("this system does not tell")
    assert after is not None
    assert again is not None
    assert after - before >= 60 * 2**20
    assert again < after


def test_a_cell_is_measured_in_a_process_of_its_own(embedded: Path) -> None:
    small = {"hidden": 8, "dense": 4}
    cost = measure(Cell("joint", "mtmm_es", ("polarity", "emotions"), ("text",), small), embedded, "test")
    # BiGRU of 8: 2 * 3 * (8 * 32 + 8 * 8 + 2 * 8) = 2016; dense 16 * 4 + 4; heads (8 + 1) * 2 and (8 + 1) * 7
    assert cost.parameters == 2016 + 68 + 18 + 63
    assert 0 < cost.epoch_seconds < 60
    assert 0 < cost.predict_seconds < 60
    assert cost.peak_bytes is None or cost.peak_bytes > 0
    assert Cost(**cost.to_json()) == cost


def test_what_cannot_be_measured_is_one_sentence(embedded: Path) -> None:
    with pytest.raises(AffectusError, match=r"'joint' could not be measured.*Unknown option 'hiden'"):
        measure(Cell("joint", "mtmm_es", ("polarity",), ("text",), {"hiden": 8}), embedded, "test")

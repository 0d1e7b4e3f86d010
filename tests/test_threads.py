"""What training sets of torch, and sets back."""

import signal

import pytest
import torch

from affectus.threads import start_process, torch_threads


def test_in_training_the_smallest_numbers_are_zero_and_afterwards_what_they_were() -> None:
    threads, tiny = torch.get_num_threads(), torch.tensor([1e-39])
    with torch_threads(1):
        assert torch.get_num_threads() == 1
        assert float(tiny * 1.0) == 0.0
        with torch_threads(2):
            pass
        assert float(tiny * 1.0) == 0.0
    assert torch.get_num_threads() == threads
    assert float(tiny * 1.0) > 0.0


def test_a_signal_waits_until_a_worker_is_started() -> None:
    class Told(Exception):
        pass

    class Process:
        started = False

        def start(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            self.started = True

    def tell(number: int, frame: object) -> None:
        raise Told

    process, before = Process(), signal.signal(signal.SIGTERM, tell)
    try:
        with pytest.raises(Told):
            start_process(process)  # type: ignore[arg-type]
        assert process.started
        assert signal.getsignal(signal.SIGTERM) is tell
    finally:
        signal.signal(signal.SIGTERM, before)

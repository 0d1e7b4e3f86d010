"""What training sets of torch, and sets back."""

import torch

from affectus.threads import torch_threads


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

from collections.abc import Iterator

import pytest
import torch

from affectus.nn import kernels, matmul


@pytest.fixture
def no_kernels() -> Iterator[None]:
    """PyTorch's operators alone."""
    with kernels.no_kernels():
        yield


@pytest.fixture(params=["the best", "avx2"])
def everywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of either level, which make every product, whatever its size and the processor."""
    if request.param == "avx2":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        loaded = kernels._load.__wrapped__()
        assert loaded[0] == "avx2"
        monkeypatch.setattr(kernels, "_load", lambda: loaded)
    monkeypatch.setattr(matmul, "multiplies", lambda: True)
    for limit in ("LEAST", "WORTH", "WORTH_OF_LAYER"):
        monkeypatch.setattr(matmul, limit, 1)

from collections.abc import Iterator

import pytest

from affectus.nn import kernels


@pytest.fixture
def no_kernels() -> Iterator[None]:
    """PyTorch's operators alone."""
    with kernels.no_kernels():
        yield

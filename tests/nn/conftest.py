import pytest

from affectus.nn import kernels


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's operators alone."""
    monkeypatch.setattr(kernels, "_load", lambda: (kernels.NONE, None))

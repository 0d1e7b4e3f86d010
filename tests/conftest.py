import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data sets; tests on real data are skipped where there is none."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("AFFECTUS_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real data here; set AFFECTUS_DATA to a folder that holds it")
    return folder

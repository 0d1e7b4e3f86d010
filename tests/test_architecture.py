"""The folder list is the pipeline: a module imports only from rows above its own."""

import ast
from pathlib import Path

import pytest

import affectus

ROOT = Path(affectus.__file__).parent
ROWS = (
    "_version", "errors", "registry", "vocabulary", "labels", "files", "threads", "allocation", "parallel", "corpus",
    "batches", "nn", "features", "objectives", "metrics", "models", "training", "evaluation", "predict", "api",
    "studies", "report", "cluster", "app", "cli", "testing",
)  # fmt: skip
WITHOUT_CORPUS = {"nn", "objectives", "metrics", "models"}
ANY = {"__init__", "__main__"}
"""The front door: may import everything, and nothing imports from it but the version."""


def row_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rows(path: Path) -> set[str]:
    """Rows of affectus that a file imports, anywhere in it, also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "affectus" else []
            names += [node.module or ""] if node.module != "affectus" else []
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("affectus.")}
    return {row for row in found if not row.startswith("__")}


FILES = sorted(ROOT.rglob("*.py"))


def test_every_folder_has_its_row() -> None:
    present = {row_of(path) for path in FILES} - ANY
    assert present <= set(ROWS), "a new folder or module needs its place in the list"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_from_above(path: Path) -> None:
    row = row_of(path)
    if row in ANY:
        return
    above = set(ROWS[: ROWS.index(row) + 1])
    assert imported_rows(path) <= above
    if row in WITHOUT_CORPUS:
        assert not imported_rows(path) & {"corpus", "features"}

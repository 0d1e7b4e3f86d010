"""The generated reference names everything that is registered, and the navigation names every page."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def load_generator() -> ModuleType:
    """Import docs/gen_reference.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("gen_reference", DOCS / "gen_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return dict(load_generator().pages())


def test_every_model_appears_with_its_options_and_presets(pages: dict[str, str]) -> None:
    from affectus.models import MODELS

    page = pages["reference/models.md"]
    assert len(MODELS) > 0
    for name in MODELS:
        assert f"## `{name}`" in page
        for option in MODELS[name].options.values():
            assert f"| `{option.name}` |" in page
            assert option.help, f"{name}: the option {option.name} has no line in the docstring"
        for preset in MODELS[name].presets:
            assert f"**Preset `{preset}`**" in page


def test_every_reader_appears_with_its_example(pages: dict[str, str]) -> None:
    from affectus.corpus.readers import READERS

    page = pages["reference/formats.md"]
    assert len(READERS) > 0
    for name in READERS:
        assert f"## `{name}`" in page
        assert f"affectus import {name} " in page, f"the reader {name} has no example"


def test_every_writer_appears(pages: dict[str, str]) -> None:
    from affectus.corpus.writers import WRITERS

    assert len(WRITERS) > 0
    for name in WRITERS:
        assert f"### `{name}`" in pages["reference/formats.md"]


def test_every_protocol_and_metric_appears(pages: dict[str, str]) -> None:
    from affectus.evaluation import PROTOCOLS
    from affectus.metrics import METRICS

    for name in PROTOCOLS:
        assert f"| `{name}` |" in pages["reference/protocols.md"]
    for name in METRICS:
        assert f"| `{name}` |" in pages["reference/metrics.md"]


def test_every_task_and_setting_appears(pages: dict[str, str]) -> None:
    from affectus.corpus.embedded import make_embedded
    from affectus.objectives import available_tasks
    from affectus.training import TrainingSettings

    for name in available_tasks(make_embedded(videos=4).schemes):
        assert f"| `{name}` |" in pages["reference/tasks.md"]
    for name, field in TrainingSettings.model_fields.items():
        assert f"| `{name}` |" in pages["reference/settings.md"]
        assert field.description, f"the training setting {name} has no description"


def test_every_verb_and_option_appears(pages: dict[str, str]) -> None:
    page = pages["reference/command-line.md"]
    for path, command in load_generator().verbs():
        assert f"## `affectus {' '.join(path)}`" in page
        for parameter in command.params:
            assert parameter.help, f"affectus {' '.join(path)}: {parameter.name} has no help"


def test_no_row_of_a_generated_table_is_broken(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        width = 0
        for line in text.splitlines():
            cells = line.replace("\\|", "").count("|") if line.startswith("|") else 0
            assert not (width and cells and cells != width), f"{path}: {line}"
            width = cells


def _leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    values = nav.values() if isinstance(nav, dict) else nav
    return [leaf for value in values for leaf in _leaves(value)]


def test_the_navigation_names_every_page(pages: dict[str, str]) -> None:
    nav = _leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert not written & set(pages), "a page is both written and generated"
    assert sorted(nav) == sorted(written | set(pages))


def test_every_public_package_has_a_reference_page() -> None:
    packages = {
        path.parent.name
        for path in (ROOT / "src" / "affectus").glob("*/__init__.py")
        if "__all__" in path.read_text(encoding="utf-8")
    }
    assert packages - {"cli"} <= {path.stem for path in (DOCS / "reference" / "api").glob("*.md")}


def test_the_citation_has_the_version_of_the_package() -> None:
    import affectus

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == affectus.__version__


def test_the_readme_names_every_model_and_format() -> None:
    from affectus.corpus.readers import READERS
    from affectus.models import MODELS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*MODELS, *READERS):
        assert f"`{name}`" in readme

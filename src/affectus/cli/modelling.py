"""The verb models."""

import inspect
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from affectus.cli.console import output
from affectus.errors import AffectusError
from affectus.files import json_text

if TYPE_CHECKING:
    from affectus.models import ModelEntry

WIDTHS: Mapping[str, int] = {"text": 300, "audio": 74, "vision": 35}
"""The features for which parameters are counted: GloVe, COVAREP and FACET, as of CMU-MOSI and CMU-MOSEI."""
NOTHING = "–"


def models(
    name: Annotated[str | None, typer.Argument(help="A model to explain; default: list all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models, or explain one: paper, deviations, options with defaults, published settings and figures.

    Examples:

      affectus models

      affectus models mtmm_es
    """
    from affectus.models import MODELS

    if name is not None:
        _explain(MODELS[name], as_json)
        return
    rows = [_row(MODELS[known]) for known in MODELS]
    if as_json:
        typer.echo(json_text(rows))
        return
    table = Table(
        caption="Parameters: trainable numbers for " + ", ".join(f"{m} {w}" for m, w in WIDTHS.items()) + " and one "
        "number to predict, options at their defaults.",
        caption_justify="left",
    )
    for heading in ("name", "paper", "year", "views", "tasks"):
        table.add_column(heading)
    table.add_column("parameters", justify="right")
    for row in rows:
        counted = NOTHING if row["parameters"] is None else f"{row['parameters']:,}"
        paper, year = (row["paper"], str(row["year"])) if row["year"] else ("baseline", "")
        table.add_row(row["name"], paper, year, ", ".join(row["views"]), ", ".join(row["tasks"]), counted)
    output().print(table)


def _row(entry: "ModelEntry") -> dict[str, Any]:
    from affectus.objectives import TaskKind
    from affectus.vocabulary import View

    every = entry.kinds == frozenset(TaskKind)
    return {
        "name": entry.name,
        "paper": entry.paper.authors if entry.paper else None,
        "year": entry.paper.year if entry.paper else None,
        "views": [str(view) for view in View if view in entry.views],
        "tasks": ["all"] if every else sorted(map(str, entry.kinds)),
        "parameters": _parameters(entry),
        "presets": sorted(entry.presets),
        "summary": entry.summary,
    }


def _parameters(entry: "ModelEntry") -> int | None:
    """Return the number of trainable numbers for :data:`WIDTHS`; None if there are none, or the model refuses them."""
    from affectus.objectives import Task, TaskKind

    kind = TaskKind.REAL if TaskKind.REAL in entry.kinds else min(entry.kinds)
    values = ("intensity",) if kind is TaskKind.REAL else ("negative", "positive")
    task = Task("intensity", "sentiment", kind, values, -3.0, 3.0)
    try:
        return entry.parameters(WIDTHS, [task])
    except AffectusError:
        return None


def _explain(entry: "ModelEntry", as_json: bool) -> None:
    from affectus.studies.published import reported

    module = inspect.cleandoc(sys.modules[entry.build.__module__].__doc__ or "")
    about, _, deviations = module.partition("Deviations:\n")
    figures = reported(entry.name)
    if as_json:
        data = {
            **_row(entry),
            "paper": vars(entry.paper) if entry.paper else None,
            "options": [{"name": o.name, "default": o.default, "help": o.help} for o in entry.options.values()],
            "training": dict(entry.training),
            "presets": {preset: dict(changes) for preset, changes in entry.presets.items()},
            "search_space": {key: str(axis) for key, axis in entry.search_space.items()},
            "about": about.strip(),
            "deviations": inspect.cleandoc(deviations),
            "published": [vars(one) for one in figures],
        }
        typer.echo(json_text(data))
        return
    console = output()
    console.print(module, markup=False, soft_wrap=True)
    row = _row(entry)
    counted = "" if row["parameters"] is None else f"  Parameters: {row['parameters']:,}"
    console.print(f"\nViews: {', '.join(row['views'])}  Tasks: {', '.join(row['tasks'])}{counted}", markup=False)
    table = Table(title="Options (--set NAME=VALUE)", title_justify="left")
    for heading in ("name", "default", "what"):
        table.add_column(heading)
    for option in entry.options.values():
        table.add_row(option.name, repr(option.default), option.help)
    if entry.options:
        console.print(table)
    published = ", ".join(f"{key}={value}" for key, value in entry.training.items())
    console.print(f"Published training settings: {published or 'none'}", markup=False, soft_wrap=True)
    for preset, changes in entry.presets.items():
        console.print(f"Preset {preset}: {json.dumps(changes, default=str)}", markup=False, soft_wrap=True)
    _print_published(console, entry.name)
    axes = ", ".join(f"{key}={axis}" for key, axis in entry.search_space.items())
    if axes:
        console.print(f"What `affectus tune` searches: {axes}", markup=False, soft_wrap=True)


def _print_published(console: Console, name: str) -> None:
    from affectus.studies.published import reported

    found = reported(name)
    if not found:
        console.print("No figure of it is packaged.", markup=False)
        return
    table = Table(title="Published figures, as shares (? there is a doubt)", title_justify="left")
    for heading in ("data", "from", "table", "figures"):
        table.add_column(heading)
    doubts: dict[str, None] = {}
    for one in found:
        more = ", ".join(f"{key} {value}" for key, value in one.row.items() if key != "system")
        shown = ", ".join(f"{m} {v:.4g}{'?' if m in one.doubts else ''}" for m, v in one.figures.items())
        table.add_row(one.data, one.paper, one.table + (f" ({more})" if more else ""), shown)
        doubts.update(dict.fromkeys(one.doubts.values()))
    console.print(table)
    for doubt in doubts:
        console.print(f"? {doubt}", markup=False, soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(models)

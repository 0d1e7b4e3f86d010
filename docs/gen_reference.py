"""The reference pages that follow from the registries, written while the documentation is built.

MkDocs loads this file as a hook (``hooks`` in ``mkdocs.yml``). Nothing here is typed by hand: a model, reader,
protocol, metric, setting or verb that is registered appears.
"""

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = "*This page is written from the registry when the documentation is built.*"


def cell(value: object) -> str:
    """Write a value so that it can stand in a table."""
    return " ".join(str(value).split()).replace("``", "`").replace("|", "\\|")


def code(value: object) -> str:
    """Write a value as code in a table."""
    return f"`{cell(value)}`"


def default_of(value: object) -> str:
    """Write a default; nothing if there is none."""
    # the command line's parser marks an absent default with an object of its own
    absent = value is None or value is False or callable(value) or "UNSET" in repr(value).upper()
    return "" if absent else code(value)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table; nothing if it has no row."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    head = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    return "\n".join([*head, *lines]) if lines else ""


def docstring(text: str | None) -> str:
    """Turn a docstring into Markdown: literals as code, the deviations as a list; what it raises is left out."""
    found = inspect.cleandoc(text or "").replace("``", "`").partition("\n\nRaises:")[0]
    before, colon, after = found.partition("Deviations:\n")
    return before + (f"**Deviations**\n\n{textwrap.dedent(after)}" if colon else "")


def settings_of(value: dict[str, Any]) -> str:
    """Write settings as ``key=value``, by commas."""
    return ", ".join(code(f"{key}={json.dumps(setting, default=str)}") for key, setting in value.items())


def models_page() -> str:
    """Describe every model: paper, deviations, options, published settings, presets."""
    from affectus.models import MODELS

    overview = table(
        ("model", "paper", "views", "what it is"),
        (
            (
                f"[`{name}`](#{name})",
                MODELS[name].paper.short if MODELS[name].paper else "baseline",
                ", ".join(sorted(map(str, MODELS[name].views))),
                cell(MODELS[name].summary),
            )
            for name in MODELS
        ),
    )
    parts = ["# Models", WRITTEN, "`affectus models` prints the list, `affectus models NAME` one of them.", overview]
    for name in MODELS:
        entry = MODELS[name]
        parts.append(f"## `{name}` {{ #{name} }}")
        parts.append(docstring(sys.modules[entry.build.__module__].__doc__))
        if entry.paper:
            paper = entry.paper
            parts.append(f"Paper: {paper.authors} {paper.year}. [{paper.title}]({paper.url}). {paper.venue}.")
        options = table(
            ("option", "type", "default", "what"),
            ((code(o.name), code(o.annotation), code(repr(o.default)), cell(o.help)) for o in entry.options.values()),
        )
        parts.append(f"**Options** (`--set NAME=VALUE`)\n\n{options}" if options else "It has no options.")
        if entry.training:
            parts.append(f"**Published training settings**: {settings_of(dict(entry.training))}.")
        for preset, changes in entry.presets.items():
            kinds = (("options", "options"), ("training", "training settings"))
            said = [f"{words} {settings_of(dict(changes[key]))}" for key, words in kinds if changes.get(key)]
            if changes.get("breaks"):
                said.append("does not keep the contracts " + ", ".join(map(code, changes["breaks"])))
            parts.append(f"**Preset {code(preset)}** (`--preset {preset}`): {'; '.join(said)}.")
        axes = ", ".join(code(f"{key}={axis}") for key, axis in entry.search_space.items())
        if axes:
            parts.append(f"**Searched by `affectus tune`**: {axes}.")
    return "\n\n".join(parts) + "\n"


def formats_page() -> str:
    """Describe every reader and writer."""
    from affectus.corpus.readers import READERS
    from affectus.corpus.writers import WRITERS

    parts = ["# Formats", WRITTEN, "What `affectus import FORMAT SOURCE... --out DIR` reads."]
    parts.append(table(("format", "what it is"), ((f"[`{n}`](#{n})", cell(READERS[n].summary)) for n in READERS)))
    for name in READERS:
        reader = READERS[name]
        parts.append(f"## `{name}` {{ #{name} }}")
        parts.append(f"{reader.summary}. Reads {reader.sources}.")
        parts.append(docstring(reader.read.__doc__))
        parts.extend(f"- `--{option.replace('_', '-')}`: {means}." for option, means in reader.options.items())
        if reader.example:
            parts.append(f"```bash\naffectus import {reader.example}\n```")
    parts.append("## Writing\n\nWhat `affectus export-features CORPUS --format FORMAT --out FILE` writes.")
    for name in WRITERS:
        parts.append(f"### `{name}` {{ #write-{name} }}\n\n{WRITERS[name].summary}.")
        parts.append(docstring(WRITERS[name].write.__doc__))
    return "\n\n".join(parts) + "\n"


def metrics_page() -> str:
    """Describe every metric."""
    from affectus.metrics import METRICS

    parts = [
        "# Metrics",
        WRITTEN,
        "In figures a metric's name follows that of the task: `polarity.accuracy`, `emotions.anger.weighted_f1`. "
        "`emotions.*` are means over the six emotions, `emotions7.*` over the six and *none*. "
        "`affectus metrics` prints this table.",
    ]
    kinds = {"real": "Numbers", "binary": "Two classes", "one_of_k": "Classes", "multi_label": "Several labels at once"}
    for kind in dict.fromkeys(METRICS[name].kind for name in METRICS):
        parts.append(f"## {kinds[kind]}")
        chosen = [METRICS[name] for name in METRICS if METRICS[name].kind == kind]
        parts.append(
            table(
                ("metric", "rule", "range", "better", "without a class", "source"),
                (
                    (
                        code(m.name),
                        cell(m.rule),
                        f"{m.range[0]:g} to {m.range[1]:g}",
                        m.direction,
                        cell(m.empty_class),
                        cell(m.citation),
                    )
                    for m in chosen
                ),
            )
        )
    return "\n\n".join(parts) + "\n"


def protocols_page() -> str:
    """Describe every protocol."""
    from affectus.evaluation import PROTOCOLS

    rows = []
    for name in PROTOCOLS:
        protocol = PROTOCOLS[name]
        chosen = "the evaluated split itself: **an oracle**" if protocol.oracle else "valid"
        intensity = ", ".join(f"`{metric}`" for metric in protocol.intensity)
        rows.append((code(name), chosen, cell(protocol.summary), intensity))
    headings = ("protocol", "epoch and thresholds are chosen on", "rules", "metrics of sentiment intensity")
    about = "What `affectus evaluate --protocol NAME` goes by. [Why they matter](../explanation/protocols.md)."
    return "\n\n".join(["# Protocols", WRITTEN, about, table(headings, rows)]) + "\n"


def tasks_page() -> str:
    """Describe the tasks, from the module that makes them, and what the embedded corpus makes of them."""
    from affectus import objectives
    from affectus.corpus.embedded import make_embedded
    from affectus.objectives import tasks

    example = objectives.available_tasks(make_embedded(videos=4).schemes)
    return (
        "\n\n".join(
            [
                "# Tasks",
                WRITTEN,
                docstring(tasks.__doc__),
                "Several tasks are learned together with `--tasks polarity,emotions`; `emotions:0.5` weighs a loss. "
                "A label that is missing costs nothing. These are the tasks of the embedded corpus:",
                table(
                    ("task", "label scheme", "kind", "values"),
                    ((code(t.name), code(t.scheme), str(t.kind), ", ".join(t.values)) for t in example.values()),
                ),
            ]
        )
        + "\n"
    )


def settings_page() -> str:
    """Describe the training settings."""
    from affectus.training import TrainingSettings

    rows = (
        (
            code(name),
            _kind(field.annotation),
            "" if field.default is None else code(field.default),
            cell(field.description),
        )
        for name, field in TrainingSettings.model_fields.items()
    )
    about = (
        "What `affectus train --set NAME=VALUE` takes besides the options of the model, and what stands under "
        "`training:` in a `--config` file. A model's published settings replace these defaults; yours replace both."
    )
    headings = ("setting", "type", "default", "what")
    return "\n\n".join(["# Training settings", WRITTEN, about, table(headings, rows)]) + "\n"


def _value(default: object) -> str:
    return "" if default is None else code(default)


def _kind(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(code(value) for value in annotation)
    return code(getattr(annotation, "__name__", annotation))


def verbs(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every verb of the command line with its path, groups left out."""
    if command is None:
        from typer.main import get_command

        from affectus.cli.main import app

        command = get_command(app)
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
    for name, child in (children or {}).items():
        yield from verbs(child, (*path, name))


def command_line_page() -> str:
    """Describe every verb, from its own help."""
    parts = [
        "# Command line",
        WRITTEN,
        "Exit code 0: done. 2: something that you can mend, said in one sentence. 130: interrupted, 143: ended "
        "by SIGTERM; the same command goes on where it stopped. 1: nobody reads the output any more.",
    ]
    for path, command in verbs():
        text = inspect.cleandoc(command.help or "")
        lead, *rest = re.split(r"Examples?:", text)
        examples = "\n".join(rest)
        parts.append(f"## `affectus {' '.join(path)}`")
        parts.append(lead.strip())
        if path == ("import",):
            parts.append("The formats, with an example of each, stand [on a page of their own](formats.md).")
        lines = [line.strip() for line in examples.splitlines() if line.strip()]
        if lines:
            parts.append("```bash\n" + "\n".join(lines) + "\n```")
        rows = []
        for parameter in command.params:
            option = parameter.param_type_name == "option"
            names = ", ".join(parameter.opts) if option else parameter.metavar or parameter.name.upper()
            needed = "yes" if parameter.required else ""
            rows.append((code(names), needed, default_of(parameter.default), cell(parameter.help)))
        parts.append(table(("argument", "needed", "default", "what"), rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def embedded_page() -> str:
    """Tell the rule of the embedded corpus, from the module that makes it."""
    from affectus.corpus import embedded

    return f"# The embedded corpus\n\n{docstring(embedded.__doc__)}\n"


def default_model_page() -> str:
    """Give the card of the model that ships."""
    from affectus.predict.default.card import card_markdown
    from affectus.predict.default.model import default_card

    return card_markdown(default_card())


def changelog_page() -> str:
    """Show the changelog."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def pages() -> dict[str, str]:
    """Return every generated page by its path in the documentation."""
    return {
        "reference/command-line.md": command_line_page(),
        "reference/models.md": models_page(),
        "reference/formats.md": formats_page(),
        "reference/tasks.md": tasks_page(),
        "reference/settings.md": settings_page(),
        "reference/protocols.md": protocols_page(),
        "reference/metrics.md": metrics_page(),
        "reference/default-model.md": default_model_page(),
        "explanation/embedded.md": embedded_page(),
        "changelog.md": changelog_page(),
    }


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages; MkDocs calls this."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files

"""Tables of a study: one form, written as Markdown, LaTeX, HTML and plain data."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from affectus.evaluation.latex import latex_comments, latex_text
from affectus.evaluation.spread import std_over_seeds

NOTHING = "–"
"""Stands where there is no figure."""


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        title: above it.
        head: names of the columns.
        rows: of as many cells each.
        notes: below it.
        text_columns: how many columns at the left hold words; the others hold figures.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    text_columns: int = 1

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} has another number of cells than the head")

    def markdown(self) -> str:
        """Return the table as Markdown."""
        marks = ["---"] * self.text_columns + ["--:"] * (len(self.head) - self.text_columns)
        lines = [self.head, tuple(marks), *self.rows]
        shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        parts = [f"**{self.title}**", "\n".join(shown), *self.notes]
        return "\n\n".join(parts)

    def latex(self) -> str:
        """Return the table as LaTeX (booktabs)."""
        columns = "l" * self.text_columns + "r" * (len(self.head) - self.text_columns)
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(self.head), r"\midrule"]
        lines += [_latex_row(row) for row in self.rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
        return "\n".join([*latex_comments(self.title, *self.notes), *lines]) + "\n"

    def html(self) -> str:
        """Return the table as HTML, its title as the caption and its notes as paragraphs below."""
        lines = ["<table>", f"<caption>{html.escape(self.title)}</caption>", "<thead>", self._html_row("th", self.head)]
        lines += ["</thead>", "<tbody>", *(self._html_row("td", row) for row in self.rows), "</tbody>", "</table>"]
        return "\n".join([*lines, *(html_text(note) for note in self.notes)])

    def _html_row(self, tag: str, cells: Sequence[str]) -> str:
        shown = [
            f"<{tag}>{html_span(cell)}</{tag}>"
            if i < self.text_columns
            else f'<{tag} class="n">{html_span(cell)}</{tag}>'
            for i, cell in enumerate(cells)
        ]
        return "<tr>" + "".join(shown) + "</tr>"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_latex_span(cell) for cell in cells) + r" \\"


def _latex_span(text: str) -> str:
    """Return a cell, which may have code and bold of Markdown, as LaTeX prints it."""
    printed = latex_text(text)
    printed = re.sub(r"`([^`]+)`", r"\\texttt{\1}", printed)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", printed)


_SPANS = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*(.+?)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"\[([^\]]+)\]\((https?://[^)\s\x22]+)\)"), r'<a href="\2">\1</a>'),
)


def html_span(text: str) -> str:
    """Return a line of the Markdown that pages are written in (code, bold, links) as HTML.

    >>> html_span("**a** < `b`")
    '<strong>a</strong> &lt; <code>b</code>'
    """
    escaped = html.escape(text, quote=False)
    for pattern, form in _SPANS:
        escaped = pattern.sub(form, escaped)
    return escaped


def html_text(text: str) -> str:
    """Return a paragraph, or a list whose every line begins with a dash, as HTML."""
    lines = text.splitlines()
    if lines and all(line.startswith("- ") for line in lines):
        return "<ul>\n" + "\n".join(f"<li>{html_span(line[2:])}</li>" for line in lines) + "\n</ul>"
    return f"<p>{html_span(text)}</p>"


@dataclass(frozen=True)
class Quantity:
    """One figure three times: as published, as an oracle, and honestly; shares from 0 to 1.

    Attributes:
        published: None where it is not at hand.
        doubt: why the published one may not be what the paper prints.
        oracle: one value per seed; empty where there is none.
        honest: likewise.
    """

    published: float | None = None
    doubt: str | None = None
    oracle: tuple[float, ...] = ()
    honest: tuple[float, ...] = ()

    def cells(self) -> tuple[str, str, str]:
        """Return the three as text, in per cent."""
        published = NOTHING if self.published is None else f"{100 * self.published:.1f}{'?' if self.doubt else ''}"
        return published, spread(self.oracle), spread(self.honest)

    def to_json(self) -> dict[str, Any]:
        """Return the three as plain data."""
        return {
            "published": self.published,
            "doubt": self.doubt,
            "oracle": summary(self.oracle),
            "honest": summary(self.honest),
        }


def summary(values: Sequence[float]) -> dict[str, Any] | None:
    """Return mean, sample standard deviation (None for one) and values; None for no value."""
    if not values:
        return None
    deviation = float(std_over_seeds(values)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": deviation, "values": list(values)}


def spread(values: Sequence[float], *, scale: float = 100.0, digits: int = 1) -> str:
    """Return mean ± standard deviation; the mean alone for one value, a dash for none or if it is undefined.

    >>> spread([0.78, 0.80])
    '79.0 ± 1.4'
    """
    found = summary(values)
    if found is None or np.isnan(found["mean"]):
        return NOTHING
    mean = f"{scale * found['mean']:.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {scale * found['std']:.{digits}f}"


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        text: paragraphs before the tables.
        grids: its tables.
        data: the same as plain data.
    """

    title: str
    text: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    data: Any = None

    def markdown(self, level: int) -> str:
        """Return the section as Markdown, its heading of the given level."""
        return "\n\n".join(["#" * level + f" {self.title}", *self.text, *(grid.markdown() for grid in self.grids)])

    def html(self, level: int) -> str:
        """Return the section as HTML, its heading of the given level."""
        heading = f"<h{level}>{html.escape(self.title)}</h{level}>"
        return "\n".join([heading, *map(html_text, self.text), *(grid.html() for grid in self.grids)])


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1.2rem 0 .4rem; display: block; overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .2rem .7rem; text-align: left; vertical-align: top; }
th { border-top: 2px solid currentColor; border-bottom: 1px solid currentColor; }
tbody tr:last-child td { border-bottom: 2px solid currentColor; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd; } a { color: #9ab8ff; } }
"""


@dataclass(frozen=True)
class Page:
    """What a study has found.

    Attributes:
        title: of the page.
        head: paragraphs on how it was made.
        parts: per corpus, a heading, paragraphs and sections.
        facts: versions, date, seeds, command as plain data.
    """

    title: str
    head: tuple[str, ...]
    parts: tuple[tuple[str, tuple[str, ...], tuple[Section, ...]], ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """Return the page as Markdown."""
        blocks = [f"# {self.title}", *self.head]
        for heading, text, sections in self.parts:
            blocks += [f"## {heading}", *text, *(section.markdown(3) for section in sections)]
        return "\n\n".join(blocks) + "\n"

    def latex(self) -> str:
        """Return every table as LaTeX; comments name the corpus and how the page was made."""
        lines = latex_comments(self.title, *self.head)
        for heading, text, sections in self.parts:
            lines += ["", *latex_comments(heading, *text)]
            lines += [grid.latex() for section in sections for grid in section.grids]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """Return the page as one HTML file that needs no other."""
        body = [f"<h1>{html.escape(self.title)}</h1>", *map(html_text, self.head)]
        for heading, text, sections in self.parts:
            body += [f"<h2>{html.escape(heading)}</h2>", *map(html_text, text), *(s.html(3) for s in sections)]
        head = f'<meta charset="utf-8">\n<title>{html.escape(self.title)}</title>\n<style>{_STYLE}</style>'
        lines = [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            head,
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
        ]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        corpora = [
            {"corpus": heading, "notes": list(text), "sections": {s.title: s.data for s in sections}}
            for heading, text, sections in self.parts
        ]
        return {**self.facts, "corpora": corpora}

import json

import pytest

from affectus.files import json_text
from affectus.studies.tables import NOTHING, Grid, Page, Quantity, Section, html_span, latex_text, spread, summary

GRID = Grid("A title", ("system", "F1, honest"), (("mtmm_es | joint", "78.6 ± 0.4"), ("linear", NOTHING)), ("A note.",))


def test_markdown_has_as_many_cells_in_each_line() -> None:
    text = GRID.markdown()
    assert "| mtmm_es \\| joint | 78.6 ± 0.4 |" in text
    assert "| --- | --: |" in text
    assert text.startswith("**A title**")
    assert text.endswith("A note.")


def test_latex_has_no_bare_special_character() -> None:
    text = GRID.latex()
    assert r"mtmm\_es $|$ joint & 78.6 $\pm$ 0.4 \\" in text
    assert text.count(r"\begin{tabular}{lr}") == text.count(r"\end{tabular}") == 1
    assert latex_text("50 % & #1 {a}") == r"50 \% \& \#1 \{a\}"
    assert latex_text("a\\b") == r"a\textbackslash{}b"
    assert latex_text("a~b^c\nd") == r"a\textasciitilde{}b\textasciicircum{}c d"


def test_a_link_in_html_has_its_address_alone() -> None:
    assert html_span('[a](https://b"onclick="c)').count("<a") == 0
    assert html_span("[a](https://b/c)") == '<a href="https://b/c">a</a>'


def test_a_row_must_fit_the_head() -> None:
    with pytest.raises(ValueError, match="another number of cells"):
        Grid("t", ("a", "b"), (("1",),))


def test_a_quantity_is_told_three_times() -> None:
    one = Quantity(0.786, "taken from another table", (0.8, 0.82), (0.79,))
    assert one.cells() == ("78.6?", "81.0 ± 1.4", "79.0")
    assert Quantity().cells() == (NOTHING,) * 3
    assert one.to_json()["honest"] == {"mean": 0.79, "std": None, "values": [0.79]}
    assert summary(()) is None
    assert spread((float("nan"),)) == NOTHING


def test_a_page_as_markdown_latex_and_data() -> None:
    section = Section("Table 4", ("Words.",), (GRID,), [{"metric": "polarity.accuracy", "honest": None}])
    page = Page("A study", ("Made by hand.",), (("corpus", ("It lacks audio.",), (section,)),), {"seeds": [0]})
    text = page.markdown()
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# A study", "## corpus", "### Table 4"]
    assert text.index("It lacks audio.") < text.index("Words.") < text.index("**A title**")
    assert page.latex().count("tabular") == 2
    assert page.latex().startswith("% A study\n% Made by hand.\n\n% corpus\n% It lacks audio.\n")
    data = json.loads(json_text(page.to_json()))
    assert data["seeds"] == [0]
    assert data["corpora"][0]["sections"]["Table 4"][0]["metric"] == "polarity.accuracy"


def test_what_latex_tells_beside_its_tables_is_comment_line_by_line() -> None:
    left_out = ("Left out:", "- `mtmm_es`: no videos.\n- `c_mkl`: no words.")
    grid = Grid("A title", ("a",), (("1",),), ("One.\nTwo_.",))
    text = Page("A study", (), (("corpus", left_out, (Section("s", (), (grid,)),)),)).latex()
    outside = [line for line in text.splitlines() if line and not line.startswith("%")]
    assert outside == grid.latex().splitlines()[3:]
    assert outside[0] == r"\begin{tabular}{l}"

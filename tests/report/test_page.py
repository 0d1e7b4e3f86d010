import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from affectus.cli.main import main
from affectus.corpus import load_corpus
from affectus.evaluation import evaluate_run
from affectus.report import write_report
from affectus.report.charts import bias_bars, element, sample_strip, text_number, ticks
from affectus.report.collecting import collect
from affectus.report.data import HeadRow, HeadScore, HeadTable, Sample, Score
from affectus.training import load_run

VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.figures: list[set[str]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "figure":
            self.figures.append(set())
        elif "figure" in self.open:
            self.figures[-1].add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.rows and self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def page_text(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert write_report([studies / "multi", studies / "single"], studies / "corpus", out) == out
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(page_text: str) -> Page:
    return Page(page_text)


@pytest.fixture(scope="module")
def heads_text(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "heads.html"
    return write_report([studies / "heads", studies / "multi"], studies / "corpus", out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def heads(heads_text: str) -> Page:
    return Page(heads_text)


def test_the_figures_on_the_page_are_those_of_the_evaluation(studies: Path, page: Page) -> None:
    corpus = load_corpus(studies / "corpus")
    multi, single = (evaluate_run(studies / name, corpus) for name in ("multi", "single"))

    def cell(found: object, name: str) -> str:
        if name not in found.values:
            return "–"
        return f"{text_number(found.mean(name), 4)} ± {text_number(found.std(name), 4)}"

    rows = {row[0]: row[1:] for row in page.rows if len(row) == 4}
    for name in ("polarity.accuracy", "emotions.weighted_f1", "emotions.weighted_accuracy", "intensity.mae"):
        expected = [cell(multi, name), cell(single, name), text_number(multi.majority[name], 4)]
        assert [" ".join(text.split()) for text in rows[name]] == expected


def test_every_seed_of_every_figure_is_on_the_page(studies: Path, page: Page) -> None:
    found = evaluate_run(studies / "single", load_corpus(studies / "corpus"))
    rows = {row[0]: row for row in page.rows if len(row) == 6}
    for name, values in found.values.items():
        assert rows[name][4].split() == [text_number(value, 4) for value in values]


def test_transcripts_cannot_run(page_text: str, page: Page) -> None:
    assert "<script" not in page_text
    assert "<img" not in page_text
    assert page_text.count("</style>") == 1
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page_text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_nothing_is_fetched(page_text: str, page: Page) -> None:
    assert {"script", "link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags} == set()
    for tag, attributes in page.tags:
        assert "src" not in attributes
        assert "srcset" not in attributes
        if "href" in attributes:
            assert tag == "a"
            assert attributes["href"].startswith(("#", "https://"))
    assert "url(" not in page_text
    assert "@import" not in page_text
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert len(page_text.encode()) < 1_000_000


def test_links_within_the_page_lead_somewhere_and_ids_are_unique(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")}
    assert targets <= set(ids)
    named = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    assert named <= set(ids)


def test_each_chart_has_a_name_and_a_table(page: Page) -> None:
    assert len(page.figures) > 30
    for inside in page.figures:
        assert {"svg", "figcaption", "table", "th", "td"} <= inside
    charts = [a for t, a in page.tags if t == "svg" and a.get("class") == "chart"]
    assert len(charts) == len(page.figures)
    assert all(a["role"] == "img" and a["aria-label"] for a in charts)


def test_wide_tables_scroll_and_can_be_reached_by_key(page: Page) -> None:
    regions = [a for _, a in page.tags if a.get("class") == "scroll"]
    assert len(regions) >= sum(tag == "table" for tag, _ in page.tags) > 30
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in regions)


def test_the_page_says_what_it_is(page: Page) -> None:
    for sentence in (
        "mtmm_es (2 runs) on embedded, test",
        "What is measured is expression",
        "It does not tell what a person feels",
        "The corpus is generated by a program",
        "seeds 0, 1",
        "--protocol akhtar2019",
        "affectus train mtmm_es CORPUS --tasks emotions --modalities text,audio,vision --seeds 0,1",
        "--set hidden=4",
    ):
        assert sentence in page.words, sentence
    assert next(a for t, a in page.tags if t == "html")["lang"] == "en"


@pytest.mark.parametrize("run", ["linear", "heads"])
def test_the_same_report_twice_is_the_same_file(studies: Path, tmp_path: Path, run: str) -> None:
    out = tmp_path / "report.html"
    first = write_report(studies / run, studies / "corpus", out).read_bytes()
    assert write_report(studies / run, studies / "corpus", out).read_bytes() == first


@pytest.mark.parametrize(
    ("runs", "options", "wanted"),
    [
        (["linear"], [], "the model is not trained in epochs"),
        (["stages"], ["--split", "dev"], "were chosen on this split"),
        (["polarity"], ["--protocol", "akhtar2019-released"], "Oracle: epoch and thresholds were chosen"),
        (["polarity", "single", "multi", "linear"], [], "Where multi looks"),
    ],
)
def test_the_command_line_writes_whole_pages(
    studies: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    runs: list[str],
    options: list[str],
    wanted: str,
) -> None:
    out = tmp_path / "report.html"
    folders = [str(studies / run) for run in runs]
    assert main(["report", *folders, "--corpus", str(studies / "corpus"), "--out", str(out), *options]) == 0
    assert wanted in Page(out.read_text(encoding="utf-8")).words
    assert "Wrote the report" in capsys.readouterr().out


def test_bad_input_is_one_sentence_and_no_file(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    arguments = ["report", str(studies / "polarity"), str(studies / "single"), "--corpus", str(studies / "corpus")]
    assert main([*arguments, "--out", str(out)]) == 2
    assert "no task in common" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--corpus", str(studies / "corpus"), "--out", str(out)]) == 2
    assert "no run" in capsys.readouterr().err
    assert not out.exists()


def test_samples_of_two_runs_stand_side_by_side(studies: Path, heads: Page) -> None:
    found = collect([load_run(studies / name) for name in ("heads", "multi")], load_corpus(studies / "corpus"))
    rows = [row for row in heads.rows if len(row) == 4]
    for listed in found.modalities.samples:
        for sample in listed.samples:
            for head, said in sample.said.items():
                cells = [sample.own.get(head), *said]
                assert [head, *(text_number(value, 2) for value in cells)] in rows
    assert heads.words.count("no transcript") == 0
    assert "Where the modalities disagree most" in heads.words
    assert "Where the modalities' own labels differ most" in heads.words
    assert "14 more" in heads.words


def test_the_page_says_how_a_modality_was_asked(heads: Page, page: Page) -> None:
    assert "heads: the model has a head for each modality; fused is its head over all of them" in heads.words
    assert (
        "multi: the model has no head for a single modality, so it was asked again with all the others" in heads.words
    )
    assert "fused is its head" not in page.words


def test_every_chart_of_the_modalities_has_its_table(heads: Page) -> None:
    test_each_chart_has_a_name_and_a_table(heads)
    names = [a["aria-label"] for t, a in heads.tags if t == "svg" and a.get("class") == "chart"]
    for name in (
        "Share said to be negative: intensity",
        "Bias: polarity",
        "Map of the representation of heads, coloured by intensity",
        "Loss of intensity.fused, stage main",
    ):
        assert name in names
    assert sum(name.startswith("What is said of ") for name in names) == 40


def test_each_head_has_a_row_with_its_labels(heads: Page) -> None:
    rows = {row[0]: row for row in heads.rows if len(row) == 8 and row[0] in ("text", "audio", "fused", "final")}
    assert list(rows) == ["text", "audio", "fused", "final"]
    assert rows["fused"][3] == "–"
    assert rows["fused"][6:] == ["–", "–"]


def test_a_map_of_points_is_small_and_tells_its_neighbours(studies: Path, heads_text: str, heads: Page) -> None:
    found = collect([load_run(studies / "heads")], load_corpus(studies / "corpus"))
    points = sum(len(group.points) for group in found.maps[0].groups)
    assert found.maps[0].total == points
    paths = [a["d"] for t, a in heads.tags if t == "path" and str(a.get("class")).startswith("points")]
    assert sum(path.count("h0") for path in paths) == 2 * points
    assert f"{points} utterances" in heads.words
    for group in found.maps[0].groups:
        wanted = [group.label, str(len(group.points)), text_number(group.neighbours), text_number(group.chance)]
        assert wanted in heads.rows
    assert len(heads_text.encode()) < 1_000_000


def test_single_and_multi_task_runs_are_called_so(page: Page) -> None:
    assert "multi learned 4 tasks together, single learned this task alone" in page.words


def test_one_run_for_all_tasks_stands_beside_one_for_each(studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "three.html"
    runs = [studies / name for name in ("multi", "polarity", "single")]
    three = Page(write_report(runs, studies / "corpus", out).read_text(encoding="utf-8"))
    assert re.search(r"Of \d+ labelled utterances multi tells \d+ better, polarity \d+", three.words)
    assert re.search(r"Of \d+ labelled utterances multi tells \d+ better, single \d+", three.words)
    assert "Class by class: polarity" in three.words


def test_bars_of_bias_start_from_zero() -> None:
    def score(value: float) -> HeadScore:
        return HeadScore(Score.of([value]), Score.of([0.5]))  # of one seed, whose spread is unknown

    rows = tuple(HeadRow(name, 9, 0.5, None, (score(value),)) for name, value in (("low", -2.0), ("high", 1.0)))
    chart = bias_bars(HeadTable("intensity", rows), ["run"])
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart.svg)
    (low, low_width), (high, high_width) = [(float(x), float(width)) for x, width in bars]
    assert low + low_width == pytest.approx(high, abs=0.2)
    assert low_width == pytest.approx(2 * high_width, abs=0.2)
    assert chart.table.rows == (("low", "−2.000"), ("high", "1.000"))


def test_what_lies_beyond_the_scale_is_drawn_at_its_end() -> None:
    sample = Sample("id", None, -9.0, {"text": None}, {"text": (9.0,), "final": (None,)}, 1.0)
    drawn = sample_strip(sample, -1.0, 1.0, "x")
    assert re.search(r'<line x1="60" x2="60" [^>]*class="truth"', drawn)
    assert re.findall(r'<circle cx="([\d.]+)"', drawn) == ["308"]
    assert 'class="own"' not in drawn


@pytest.mark.parametrize(
    ("value", "digits", "expected"), [(-0.0004, 3, "0.000"), (-0.0006, 3, "−0.001"), (None, 3, "–"), (2.5, 0, "2")]
)
def test_what_is_rounded_to_nothing_has_no_sign(value: float | None, digits: int, expected: str) -> None:
    assert text_number(value, digits) == expected


def test_text_in_pictures_is_escaped() -> None:
    assert element("text", "<b>", aria_label='"&') == '<text aria-label="&#34;&amp;">&lt;b&gt;</text>'


def test_ticks_are_round_and_within() -> None:
    assert ticks(0.13, 0.42) == [0.2, 0.3, 0.4]
    assert ticks(2, 2) == [2]
    assert all(re.fullmatch(r"-?\d+(\.\d)?", f"{tick:g}") for tick in ticks(-1.3, 2.9))

"""The page in a real browser: by mouse, by keyboard, at two widths and in two themes."""

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="needs the extra affectus[media]")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

CHROMIUM = os.environ.get("AFFECTUS_CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; name it by AFFECTUS_CHROMIUM"),
]
SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample.mp4"
SRT = "1\n00:00:00,500 --> 00:00:02,000\n{}\n\n2\n00:00:03,000 --> 00:00:04,500\nThe food was terrible, I hated it.\n"
WAIT = 600_000
"""Milliseconds for an analysis."""
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, opened: Path) -> Iterator[str]:
    """Run the server as a person does, and return its address."""
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "affectus", "serve", "--port", "0", "--no-browser"]
    command += ["--folder", str(folder / "kept"), "--open", str(opened)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        yield found[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def make_page(browser: Any, server: str) -> Iterator[Callable[..., Any]]:
    """Return what makes a page that fails the test if a script fails, a policy is hurt, or another host is asked."""
    contexts, complaints = [], []

    def make(width: int = 1400, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            base_url=server,
            accept_downloads=True,
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on(
            "console",
            lambda m: complaints.append(m.text) if "Content Security" in m.text or "Trusted" in m.text else None,
        )
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((server, "blob:", "data:", "about:")) else complaints.append(request.url)
            ),
        )
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture
def page(make_page: Callable[..., Any]) -> Any:
    return make_page()


def give(page: Any, name: str, content: bytes) -> None:
    page.goto("/#/")
    page.locator("#file").set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": content})


def until(page: Any, test: str, seconds: float = 30.0) -> None:
    """Wait for an expression to hold; Playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(test):
        assert time.monotonic() < end, test
        time.sleep(0.05)


def analysed(page: Any, name: str, content: bytes) -> str:
    """Upload, wait for the end, open the report, and return its id."""
    give(page, name, content)
    page.get_by_role("link", name="Open the report").click(timeout=WAIT)
    page.locator("ol.transcript button").first.wait_for()
    return str(page.url.rsplit("/", 1)[1])


@pytest.fixture(scope="module")
def sample(browser: Any, server: str) -> str:
    """Return the id of the analysed sample clip, dropped on the page with a mouse."""
    page = browser.new_context(base_url=server).new_page()
    page.goto("/#/")
    page.locator(".drop").wait_for()
    data = page.evaluate_handle(
        """async (bytes) => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "sample clip.mp4")); return data; }""",
        list(SAMPLE.read_bytes()),
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": data})
    bar = page.get_by_role("progressbar", name="Progress of sample clip.mp4")
    bar.wait_for(timeout=30_000)
    stages, since = set(), time.monotonic()
    link = page.get_by_role("link", name="Open the report")
    while not link.count():
        assert time.monotonic() - since < WAIT / 1000
        stages.add((page.locator(".job .soft").first.text_content() or "").split(" · ")[0])
        # the page answers while an analysis runs
        begun = time.monotonic()
        assert page.evaluate("fetch('/api/status').then((answer) => answer.status)") == 200
        assert time.monotonic() - begun < 1.0
        time.sleep(0.2)
    assert {"recognizing speech", "reading faces"} <= stages
    link.click()
    page.locator("ol.transcript button").first.wait_for()
    found = str(page.url.rsplit("/", 1)[1])
    page.context.close()
    return found


def test_the_report_by_mouse(page: Any, sample: str) -> None:
    page.goto(f"/#/a/{sample}")
    rows = page.locator("ol.transcript button")
    rows.first.wait_for()
    assert rows.count() >= 3
    until(page, "document.querySelector('video').readyState >= 1")

    # a click into the timeline moves the video, and the transcript with it
    box = page.locator(".timeline canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + 80)
    until(
        page,
        "Math.abs(document.querySelector('video').currentTime - 0.8 * document.querySelector('video').duration) < 0.5",
    )
    until(page, "document.querySelector('ol.transcript li:last-child button').hasAttribute('aria-current')")
    rows.nth(1).click()
    start = page.evaluate(
        "async (id) => (await (await fetch(`/api/analyses/${id}/result`)).json()).utterances[1].start", sample
    )
    until(page, f"Math.abs(document.querySelector('video').currentTime - {start}) < 0.2")

    # playing, the timeline goes along
    page.evaluate("document.querySelector('video').play()")
    until(page, f"Number(document.querySelector('.timeline').getAttribute('aria-valuenow')) > {start} + 1")
    page.evaluate("document.querySelector('video').pause()")

    # without words the answer is another one, and it is the one that the server gives
    before = [row.inner_text() for row in rows.all()]
    page.get_by_role("checkbox", name="words").uncheck()
    assert [row.inner_text() for row in rows.all()] != before
    assert page.locator(".answer").inner_text().startswith("From voice, face: mean ")
    told = page.evaluate(
        "async (id) => (await (await fetch(`/api/analyses/${id}/result`)).json()).subsets['audio+vision']", sample
    )
    page.get_by_text("Everything as a table").click()
    shown = [cell.inner_text() for cell in page.locator("details td:nth-child(3)").all()]
    assert [float(text.replace("−", "-")) for text in shown] == pytest.approx(
        [one["intensity"] for one in told], abs=0.006
    )
    page.get_by_role("checkbox", name="voice").uncheck()
    page.get_by_role("checkbox", name="face").uncheck()
    assert page.locator(".answer").inner_text() == "Every modality is off, so nothing is told."
    for name in ("words", "voice", "face"):
        page.get_by_role("checkbox", name=name).check()
    assert [row.inner_text() for row in rows.all()] == before

    heads = {"CSV": "id,", "JSON": "{", "subtitles (VTT)": "WEBVTT", "ELAN": "<?xml", "Praat TextGrid": "File type"}
    for name, head in heads.items():
        with page.expect_download() as fetched:
            page.get_by_role("link", name=name, exact=True).click()
        assert Path(fetched.value.path()).read_text(encoding="utf-8").startswith(head)


def test_the_report_by_keyboard(page: Any, sample: str) -> None:
    page.goto(f"/#/a/{sample}")
    page.locator("ol.transcript button").first.wait_for()
    until(page, "document.querySelector('video').readyState >= 1")

    def reach(test: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate(f"(() => {{ const e = document.activeElement; return {test}; }})()"):
                return
        raise AssertionError(f"the keyboard does not reach {test}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reach("e.type === 'checkbox' && e.value === 'text'")
    page.keyboard.press("Space")
    assert page.locator(".answer").inner_text().startswith("From voice, face")
    page.keyboard.press("Space")
    reach("e.getAttribute('role') === 'slider'")
    page.keyboard.press("ArrowRight")
    until(page, "Math.abs(document.querySelector('video').currentTime - 5) < 0.2")
    assert page.locator(".timeline").get_attribute("aria-valuetext").startswith("0:05")
    page.keyboard.press("End")
    until(page, "document.querySelector('video').currentTime > 15")
    page.keyboard.press("Home")
    until(page, "document.querySelector('video').currentTime === 0")
    page.keyboard.press("PageDown")
    until(page, "document.querySelector('video').currentTime > 0.1")
    reach("e.classList.contains('utterance')")
    page.keyboard.press("Enter")
    reach("e.id === 'fix-sentiment'")
    page.keyboard.press("ArrowDown")
    reach("e.textContent === 'Keep the correction'")
    page.keyboard.press("Enter")
    page.get_by_text("Corrected by a person").wait_for()
    page.get_by_text("1 corrected.").wait_for()
    reach("e.textContent === 'Withdraw it'")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing was corrected yet.").wait_for()


def test_a_correction_comes_out_as_a_manifest(page: Any, sample: str) -> None:
    page.goto(f"/#/a/{sample}")
    page.locator("ol.transcript button").nth(1).click()
    page.get_by_label("Sentiment", exact=True).select_option("-2")
    page.get_by_label("Emotion", exact=True).select_option("disgust")
    page.get_by_role("button", name="Keep the correction").click()
    page.get_by_text("✎ corrected").wait_for()
    with page.expect_download() as fetched:
        page.get_by_role("link", name="with features and media (ZIP)").click()
    archive = zipfile.ZipFile(fetched.value.path())
    (row,) = csv.DictReader(io.TextIOWrapper(archive.open("manifest.csv"), encoding="utf-8"))
    assert (row["sentiment"], row["emotion_class"]) == ("-2.0", "disgust")
    assert archive.read(row["path"]) == SAMPLE.read_bytes()
    assert row["vision_features"] in archive.namelist()


def test_recording(page: Any) -> None:
    page.goto("/#/")
    page.get_by_role("button", name="Camera and microphone").click()
    page.get_by_role("button", name="Stop").wait_for()
    time.sleep(4)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Analyse the recording").click()
    page.get_by_role("link", name="Open the report").click(timeout=WAIT)
    page.locator("video.player").wait_for()
    until(page, "document.querySelector('video').videoWidth > 0")
    assert page.locator("h1").inner_text().startswith("recording ")
    assert page.locator("ol.transcript button").count() >= 1


def test_what_is_wrong_is_shown(page: Any) -> None:
    give(page, "archive.mp4", b"PK\x03\x04" + bytes(1000))
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("alert").inner_text().startswith("archive.mp4: This is no video")
    give(page, "cut off.mp4", SAMPLE.read_bytes()[:3000])
    failed = page.locator(".job p.problem")
    failed.wait_for(timeout=WAIT)
    assert "cut off.mp4" in failed.inner_text()
    page.goto("/#/a/0000000000000000")
    page.get_by_text("There is no such analysis.").wait_for()
    page.goto("/#/nowhere")
    page.get_by_text("There is no such page").wait_for()


def test_markup_is_shown_as_text_and_deleted_by_keyboard(page: Any) -> None:
    evil = "<img src=x onerror=\"alert('transcript')\"><b>great</b>"
    name = "<script>alert(1)<img src=x onerror=alert(2)>.srt"
    id = analysed(page, name, SRT.format(evil).encode())
    assert page.locator("h1").inner_text() == name
    assert (
        "<b>great</b>" in page.locator("ol.transcript").inner_text()
        or "great" in page.locator("ol.transcript").inner_text()
    )
    page.get_by_text("Everything as a table").click()
    for path in (f"/#/a/{id}", "/#/history", f"/#/compare/{id}"):
        page.goto(path)
        page.locator("h1").wait_for()
        time.sleep(0.5)
        assert page.evaluate("document.querySelectorAll('main img, main script, main b').length") == 0
    page.goto("/#/history")
    button = page.get_by_role("button", name=f"Delete {name}")
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete it").wait_for()
    page.keyboard.press("Escape")
    assert button.evaluate("(e) => e === document.activeElement")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete it").press("Enter")
    page.locator(f"[data-job='{id}']").wait_for(state="detached")
    assert page.evaluate("(id) => fetch(`/api/analyses/${id}`).then((answer) => answer.status)", id) == 404


def test_comparison(page: Any, sample: str) -> None:
    other = analysed(page, "other.srt", SRT.format("I love this wonderful day.").encode())
    page.goto("/#/compare")
    page.get_by_role("checkbox", name="sample clip.mp4").check()
    page.get_by_role("checkbox", name="other.srt").check()
    figures = page.get_by_role("region", name="What the recordings express")
    figures.wait_for()
    assert [row.inner_text() for row in figures.locator("tbody th").all()] == ["sample clip.mp4", "other.srt"]
    assert page.locator("path.course").count() == 2
    assert page.url.endswith(f"#/compare/{sample},{other}")
    page.reload()
    figures.wait_for()


def test_a_run_its_report_and_its_examples(page: Any) -> None:
    page.goto("/#/open")
    page.get_by_role("button", name="Judge").wait_for()
    for field, word in (("#run", "vectors"), ("#corpus", "toy")):
        options = page.locator(f"{field} option").all_inner_texts()
        page.locator(field).select_option(index=next(i for i, text in enumerate(options) if word in text))
    page.get_by_role("button", name="Judge").click()
    rows = page.locator("ol.transcript button")
    rows.first.wait_for(timeout=WAIT)

    def errors(word: str) -> list[float]:
        return [float(found[1]) for row in rows.all() if (found := re.search(rf"{word} ([\d.]+)", row.inner_text()))]

    assert len(errors("error")) > 5
    assert errors("error") == sorted(errors("error"), reverse=True)
    page.get_by_label("Sorted by").select_option("spread")
    assert errors("disagreement") == sorted(errors("disagreement"), reverse=True)
    rows.first.click()
    page.get_by_label("Sentiment", exact=True).select_option("3")
    page.get_by_role("button", name="Keep the correction").click()
    with page.expect_download() as fetched:
        page.get_by_role("link", name="table (CSV)").click()
    assert ",3.0" in Path(fetched.value.path()).read_text()
    with page.context.expect_page() as popup:
        page.get_by_role("link", name="The run's report (new tab)").click()
    popup.value.locator("h1").wait_for()
    assert "toy" in popup.value.locator("body").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_serious_for_axe_and_nothing_sticks_out(
    make_page: Callable[..., Any], sample: str, width: int, scheme: str, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the package axe-playwright-python")
    page = make_page(width, scheme, reduced_motion="reduce")
    shots = Path(os.environ.get("AFFECTUS_SCREENSHOTS", tmp_path))
    for name, path in (("analyse", "/#/"), ("history", "/#/history"), ("open", "/#/open"), ("report", f"/#/a/{sample}"),
                       ("compare", "/#/compare")):  # fmt: skip
        page.goto("about:blank")
        page.goto(path)
        page.locator("main h1").wait_for()
        time.sleep(1.0)
        if name == "compare":
            for box in page.get_by_role("checkbox").all()[:2]:
                box.check()
            time.sleep(1.0)
        page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        found = axe.Axe().run(page).response["violations"]
        serious = [
            (one["id"], [node["html"][:120] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert not serious, name


def test_an_hour_scrolls_smoothly(page: Any, sample: str) -> None:
    def hour(route: Any) -> None:
        found = route.fetch().json()
        model = found["utterances"][0]
        rows = []
        for i in range(1200):
            value = 2.5 * math.sin(i / 7)
            opinion = {
                **model["opinion"],
                "intensity": value,
                "emotion": ["anger", "happiness", "sadness", "none"][i % 4],
            }
            alone = {
                name: {**opinion, "polarities": {}, "intensity": value * (1 if name == "text" else -0.5)}
                for name in found["modalities"]
            }
            times = {"id": f"u{i}", "start": 3.0 * i, "end": 3.0 * i + 2.8, "text": f"Sentence {i} of a long talk."}
            rows.append({**model, **times, "opinion": opinion, "alone": alone})
        subsets = {key: [row["opinion"] for row in rows] for key in found["subsets"]}
        route.fulfill(json={**found, "utterances": rows, "subsets": subsets, "duration": 3600.0})

    page.route(f"**/api/analyses/{sample}/result", hour)
    page.goto(f"/#/a/{sample}")
    page.locator("ol.transcript button").first.wait_for()
    for _ in range(8):
        page.evaluate("document.querySelector('.head button:last-child').click()")
    frames = page.evaluate(
        """() => new Promise((resolve) => {
          const frame = document.querySelector(".timeline"), times = [], begun = performance.now();
          let last = begun;
          function next(now) {
            times.push(now - last); last = now;
            const share = (now - begun) / 10000;
            if (share >= 1) return resolve(times.slice(1));
            frame.scrollLeft = share * (frame.scrollWidth - frame.clientWidth);
            requestAnimationFrame(next);
          }
          requestAnimationFrame(next);
        })"""
    )
    frames.sort()
    late = frames[int(0.95 * len(frames))]
    print(
        json.dumps(
            {"frames": len(frames), "median_ms": frames[len(frames) // 2], "p95_ms": late, "worst_ms": frames[-1]}
        )
    )
    assert page.evaluate("document.querySelector('.timeline').scrollLeft") > 1000
    assert late < 50

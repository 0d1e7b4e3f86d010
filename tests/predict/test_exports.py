import csv
import io
import itertools
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from affectus.files import json_text
from affectus.predict.exports import csv_text, elan_text, textgrid_text, vtt_text, write_exports
from affectus.predict.results import Analysis


def test_disagreement_needs_two_clear_and_opposite_modalities(analysis: Analysis) -> None:
    first, second, third = analysis.utterances
    assert first.disagree
    assert first.spread == pytest.approx(1.4)
    assert not second.disagree
    assert second.spread is None
    assert not third.disagree
    assert analysis.modalities == ("text", "audio")
    assert analysis.speakers == ("Ann", "Bo")


def test_csv_has_a_row_for_each_utterance_and_all_columns_of_any(analysis: Analysis) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(analysis))))
    assert [row["id"] for row in rows] == ["clip[0]", "clip[1]", "clip[2]"]
    assert rows[0]["text"] == 'I "love" it & <you>'
    assert float(rows[0]["audio.intensity"]) == -0.8
    assert rows[1]["audio.intensity"] == ""
    assert rows[0]["disagree"] == "1"
    assert float(rows[0]["emotion.happiness"]) == 0.7
    assert rows[2]["text"] == ""


def test_json_keeps_everything(analysis: Analysis) -> None:
    found = json.loads(json_text(analysis.to_json()))
    assert found["utterances"][0]["alone"]["audio"]["emotion"] == "anger"
    assert found["utterances"][0]["words"][1] == ['"love"', 0.7, 1.2]
    assert found["utterances"][0]["disagree"] is True
    assert "feels" in found["notice"]


def test_vtt_is_escaped_and_timed(analysis: Analysis) -> None:
    text = vtt_text(analysis)
    assert text.startswith("WEBVTT\n\nNOTE ")
    assert '00:00:00.500 --> 00:00:02.000\n<v Ann><c.positive>I "love" it &amp; &lt;you&gt;</c>' in text
    assert "[happiness 70%, +1.5]" in text
    assert len(re.findall(r" --> ", text)) == 3


def test_elan_names_its_slots_and_tiers(analysis: Analysis) -> None:
    root = ElementTree.fromstring(elan_text(analysis))
    tiers = {tier.get("TIER_ID"): tier for tier in root.iter("TIER")}
    assert {
        "transcript Ann",
        "transcript Bo",
        "words",
        "emotion",
        "intensity",
        "text emotion",
        "audio intensity",
    } <= set(tiers)
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    for annotation in root.iter("ALIGNABLE_ANNOTATION"):
        assert slots[annotation.get("TIME_SLOT_REF1")] < slots[annotation.get("TIME_SLOT_REF2")]
    ids = [annotation.get("ANNOTATION_ID") for annotation in root.iter("ALIGNABLE_ANNOTATION")]
    assert len(ids) == len(set(ids))
    assert tiers["transcript Ann"].find(".//ANNOTATION_VALUE").text == 'I "love" it & <you>'
    media = root.find(".//MEDIA_DESCRIPTOR")
    assert media.get("RELATIVE_MEDIA_URL") == "./clip.mp4"
    types = {kind.get("LINGUISTIC_TYPE_ID") for kind in root.iter("LINGUISTIC_TYPE")}
    assert {tier.get("LINGUISTIC_TYPE_REF") for tier in tiers.values()} <= types


def test_control_characters_do_not_break_elan(analysis: Analysis) -> None:
    broken = Analysis("a\x00b.mp4", analysis.utterances, "m", media="text")
    ElementTree.fromstring(elan_text(broken))


def test_textgrid_tiers_have_no_gap_and_no_overlap(analysis: Analysis) -> None:
    text = textgrid_text(analysis)
    for tier in text.split("    item [")[2:]:
        bounds = [
            (float(a), float(b)) for a, b in re.findall(r"            xmin = (.+)\n            xmax = (.+)", tier)
        ]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == 6.0
        assert all(one[1] == two[0] for one, two in itertools.pairwise(bounds))
        assert all(a < b for a, b in bounds)
        assert f"intervals: size = {len(bounds)}" in tier
    assert 'text = "I ""love"" it & <you>"' in text


def test_text_without_times_gives_no_timed_file(text_analysis: Analysis, tmp_path: Path) -> None:
    assert [path.name for path in write_exports(text_analysis, tmp_path)] == ["utterances.csv", "result.json"]


def test_everything_is_written(analysis: Analysis, tmp_path: Path) -> None:
    written = {path.name for path in write_exports(analysis, tmp_path)}
    assert written == {"utterances.csv", "result.json", "subtitles.vtt", "annotation.eaf", "annotation.TextGrid"}
    assert all((tmp_path / name).stat().st_size for name in written)

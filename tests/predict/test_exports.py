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
from affectus.predict.exports.tiers import Mark, tiers_of
from affectus.predict.results import Analysis, Opinion, Utterance


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
        "words Ann",
        "emotion",
        "emotion Ann",
        "intensity Bo",
        "text emotion Bo",
        "audio intensity Ann",
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


def overlapping(*said: tuple[float, float, str | None]) -> Analysis:
    """Utterances with times, a speaker and two words each, called by their numbers."""
    utterances = tuple(
        Utterance(
            id=str(i), recording="clip", start=start, end=end, speaker=speaker, text=f"text {i}",
            opinion=Opinion(emotion=f"emotion {i}"), alone={"audio": Opinion(intensity=float(i))},
            words=((f"word {i}", start, (start + end) / 2), (f"end {i}", (start + end) / 2, end)),
        )
        for i, (start, end, speaker) in enumerate(said)
    )  # fmt: skip
    return Analysis("clip.wav", utterances, "m", media="audio")


def test_utterances_that_overlap_stand_on_further_tiers() -> None:
    # one within another, one that begins in both, and one after the first two
    found = overlapping((1.0, 10.0, None), (3.0, 5.0, None), (4.0, 12.0, None), (10.0, 11.0, None))
    tiers = tiers_of(found)
    for kind in ("transcript", "emotion", "audio intensity"):
        assert [[mark.start for mark in tiers[name]] for name in (kind, f"{kind} 2", f"{kind} 3")] == [
            [1.0, 10.0], [3.0], [4.0],
        ]  # fmt: skip
    assert [mark.text for mark in tiers["words"]] == ["word 0", "end 0", "word 3", "end 3"]
    assert [mark.text for mark in tiers["words 3"]] == ["word 2", "end 2"]
    root = ElementTree.fromstring(elan_text(found))
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    for tier in root.iter("TIER"):
        spans = [
            (slots[one.get("TIME_SLOT_REF1")], slots[one.get("TIME_SLOT_REF2")])
            for one in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))
    values = [value.text for value in root.iter("ANNOTATION_VALUE")]
    for i, one in enumerate(found.utterances):
        assert values.count(f"text {i}") == 1
        mark = f'xmin = {one.start:.6f}\n            xmax = {one.end:.6f}\n            text = "text {i}"'
        assert mark in textgrid_text(found)


def test_tiers_are_of_one_speaker() -> None:
    tiers = tiers_of(overlapping((0.0, 4.0, "Ann"), (1.0, 2.0, "Bo"), (3.0, 5.0, "Ann"), (5.0, 6.0, None)))
    for kind in ("transcript", "words", "emotion", "audio intensity"):
        assert {name for name in tiers if name.startswith(kind)} == {
            f"{kind} Ann", f"{kind} Bo", f"{kind} Ann 2", kind,
        }  # fmt: skip
    assert tiers["emotion Ann 2"] == [Mark(3.0, 5.0, "emotion 2")]
    tiers = tiers_of(overlapping((0.0, 4.0, None), (1.0, 2.0, None), (3.0, 5.0, "2")))
    assert tiers["emotion 3"] == [Mark(1.0, 2.0, "emotion 1")]
    assert tiers["emotion 2"] == [Mark(3.0, 5.0, "emotion 2")]


def test_words_that_overlap_within_an_utterance_stand_apart() -> None:
    one = Utterance(
        id="a", recording="a", start=0.0, end=2.0, speaker=None, text="so it is", opinion=Opinion(),
        words=(("so", 0.0, 1.0), ("it", 0.9, 1.5), ("is", 1.5, 2.0)),
    )  # fmt: skip
    tiers = tiers_of(Analysis("a.wav", (one,), "m", media="audio"))
    assert tiers["words"] == [Mark(0.0, 1.0, "so"), Mark(1.5, 2.0, "is")]
    assert tiers["words 2"] == [Mark(0.9, 1.5, "it")]


def test_text_without_times_gives_no_timed_file(text_analysis: Analysis, tmp_path: Path) -> None:
    assert [path.name for path in write_exports(text_analysis, tmp_path)] == ["utterances.csv", "result.json"]


def test_everything_is_written(analysis: Analysis, tmp_path: Path) -> None:
    written = {path.name for path in write_exports(analysis, tmp_path)}
    assert written == {"utterances.csv", "result.json", "subtitles.vtt", "annotation.eaf", "annotation.TextGrid"}
    assert all((tmp_path / name).stat().st_size for name in written)

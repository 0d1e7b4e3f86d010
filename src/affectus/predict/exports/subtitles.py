"""WebVTT subtitles (https://www.w3.org/TR/webvtt1/) with what is expressed."""

import html

from affectus.predict.exports.tiers import timed
from affectus.predict.results import Analysis, Utterance


def vtt_text(analysis: Analysis) -> str:
    """Return WebVTT: who speaks, what, and below it emotion and intensity; a class on the text names the polarity."""
    parts = ["WEBVTT", f"NOTE {' '.join(analysis.notice.split()).replace('-->', '')}"]
    for number, one in enumerate(timed(analysis), start=1):
        parts.append(f"{number}\n{_time(one.start)} --> {_time(one.end)}\n{_cue(one)}")
    return "\n\n".join(parts) + "\n"


def _cue(one: Utterance) -> str:
    said = one.opinion
    lines = []
    if one.text:
        text = html.escape(" ".join(one.text.split()), quote=False)
        text = f"<c.{said.polarity}>{text}</c>" if said.polarity else text
        lines.append(f"<v {html.escape(one.speaker, quote=False)}>{text}" if one.speaker else text)
    told = [said.emotion or ""]
    if said.emotion and said.emotion in said.emotions:
        told[0] += f" {said.emotions[said.emotion]:.0%}"
    if said.intensity is not None:
        told.append(f"{said.intensity:+.1f}")
    lines.append(f"[{', '.join(part for part in told if part)}]")
    return "\n".join(lines)


def _time(seconds: float | None) -> str:
    whole = round((seconds or 0) * 1000)
    minutes, milliseconds = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"

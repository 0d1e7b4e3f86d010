"""The card of the model that ships, as a page for people."""

from collections.abc import Mapping
from typing import Any

LICENCES = (
    ("CMU-MOSEI, transcripts and labels", "research only; the videos are third parties'"),
    ("CMU-MOSI, transcripts and labels", "research only; the videos are third parties'"),
    ("MELD, transcripts and labels", "GPL-3.0; the series is a third party's"),
    ("CH-SIMS v2, English translations and labels", "research only"),
    ("RAVDESS, sound and action units", "CC BY-NC-SA 4.0: not for commercial use"),
    ("all-MiniLM-L6-v2, on which the text part is built", "Apache-2.0"),
)
FAILURES = (
    "English only. Other languages are read as if they were English, and what is said of them means nothing.",
    "Voice and face come from 18 North American actors in a studio, who say two sentences. Of other people, accents, "
    "microphones, ages and of talk that is not acted, nobody has measured how well they are told, so their evidence "
    "counts a quarter of what it is worth there (a judgement, not a measurement).",
    "A speaker's usual voice and face are taken off as far as the recording shows them: who is angry throughout looks "
    "less angry than somebody who flares up.",
    "Sound and face have no labels of sentiment: their intensity and polarity follow from their emotion.",
    "Fear and disgust are rare in what was learned from and are seldom found; happiness is said too often.",
    "At use action units are proxies made of blendshapes, where OpenFace's were learned from: related, not equal.",
    "Irony, quotations, jokes and politeness are taken at their word.",
    "Speech recognition errs, most where people talk over one another, and what it gets wrong is read as said.",
    "How sure it is was fitted on the same sources; elsewhere the percentages are worth less.",
)
NOT_FOR = (
    "Judging people: hiring, admission, policing, border control, credit, insurance, health, schools, custody.",
    "Watching people who do not know it or have not agreed.",
    "Claims about what somebody feels, thinks, intends, or whether they lie.",
)
COMMANDS = """\
python benchmarks/default_model.py --data DATA --work runs/default --stage text      # hours on one core
python benchmarks/default_model.py --data DATA --work runs/default --stage acted-cv  # minutes
python benchmarks/default_card.py  --data DATA --work runs/default                   # minutes"""


def card_markdown(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Args:
        card: ``card.json`` of the model.
    """
    parts = [
        "# The model that ships",
        f"`{card['name']}`, made {card['made']}, {card['bytes'] / 1e6:.1f} MB, SHA-256 `{card['sha256']}`. "
        "Written by `benchmarks/default_card.py`; everything is made again by:",
        "```text\n" + COMMANDS + "\n```",
        "**What is measured is expression**, as annotators of other recordings called it: what words, voices and faces "
        "show. It does not tell what a person feels or thinks.",
        "## What it tells",
        "Per utterance, of all modalities together and of each by itself: polarity (negative, neutral, positive), "
        "intensity "
        "of sentiment from −3 to 3, and one of seven emotions, with probabilities; from the words alone, whether "
        "annotators "
        "would mark each of six emotions.",
        "## How it is built",
        "MiniLM (all-MiniLM-L6-v2) with low-rank adapters reads the transcript, attention adds the transcripts "
        "around it; networks read 182 statistics of the sound, relative to the utterance's own level, and the mean "
        "intensity of 13 action units, relative to the recording's resting face. Of both is taken off how the "
        "speaker sounds and looks in the other utterances of the recording, as far as there are any: half of it "
        "with five, nothing with none. Each modality gives evidence, a vector; linear heads read the sum, plus a "
        "prior. A missing modality adds nothing. Whether annotators would mark an emotion is told by ridge "
        "regression on the text's evidence of the utterance, of those near it and of the recording.",
        "Sound and face were learned from RAVDESS and from seven disturbed copies of its sound (faster, slower, "
        "noisy), with clips read by themselves and beside others of their actor, and with either modality dropped at "
        "random. RAVDESS's eight classes are an auxiliary head, told for RAVDESS only; its *calm* and *neutral* both "
        "are *none* in the seven. Four of OpenFace's 17 intensities (AU05, AU15, AU17, AU20) are left out, since "
        "their proxies hardly ever move.",
        "How much the evidence counts was fitted on kept parts (a temperature for each modality and head): "
        + "; ".join(
            f"{head}: " + ", ".join(f"{name} {value:g}" for name, value in weights.items())
            for head, weights in card["evidence_weights"].items()
        )
        + f". For voice and face it was then multiplied by {card['acted']['discount']:g}.",
        "## Data and licences",
        "| data | licence |\n| --- | --- |\n" + "\n".join(f"| {name} | {licence} |" for name, licence in LICENCES),
        "**What follows for the weights.** They were made from data that may be used for research, some of it not "
        "commercially. Whether weights are a derived work of the data is not settled; take it that these are for "
        "research "
        "and not for commercial use, unless you have cleared it. The code is Apache-2.0; for weights of your own, "
        "train "
        "on data of your own.",
        _parts(card),
        "## Figures",
        "On parts that chose nothing: neither weights nor thresholds nor penalties. Intervals are of the difference to "
        "the model over 10,000 draws of videos. Baselines learned from the same corpus's rows alone; thresholds of the "
        "emotions, one for each, were chosen for every system on the kept rows.",
    ]
    for name, judged in card["judged"].items():
        parts.append(f"### {name}")
        parts.append(_figures(judged))
        if "paired_differences" in judged:
            parts.append(_differences(judged["paired_differences"]))
        if "actors" in judged:
            parts.append(_acted(judged, card["acted_cross_validation"]))
    parts.append("### How sure, and how often right")
    parts.append("Mean distance between the probability of what is said and how often it is right (ECE, ten bins).")
    parts.append(
        "| what | ECE |\n| --- | --- |\n"
        + "\n".join(f"| {name} | {value['ece']:.3f} |" for name, value in card["reliability"].items())
    )
    if "cremad" in card:
        parts.append(_cremad(card["cremad"]))
    parts += [
        "## Where it fails",
        "\n".join(f"- {line}" for line in FAILURES),
        "## What it must not be used for",
        "\n".join(f"- {line}" for line in NOT_FOR),
    ]
    return "\n\n".join(parts) + "\n"


def _parts(card: Mapping[str, Any]) -> str:
    names = {"train": "learned from", "kept": "chosen and calibrated by", "judged": "judged"}
    sources = sorted({source for of in card["parts"].values() for source in of})
    head = "| utterances | " + " | ".join(names.values()) + " |\n| --- | --- | --- | --- |\n"
    rows = "\n".join(
        f"| {source} | " + " | ".join(f"{card['parts'][role].get(source, 0):,}" for role in names) + " |"
        for source in sources
    )
    hashes = "\n".join(f"| `{name}` | `{digest[:16]}` |" for name, digest in card["data"].items())
    return head + rows + "\n\n| file | SHA-256 begins |\n| --- | --- |\n" + hashes


def _figures(judged: Mapping[str, Any]) -> str:
    figures = judged["figures"]
    columns = list(
        dict.fromkeys(name for of in figures.values() for name, value in of.items() if not isinstance(value, dict))
    )
    head = "| system | " + " | ".join(columns) + " |\n|" + " --- |" * (len(columns) + 1) + "\n"
    rows = "\n".join(
        f"| {system} | " + " | ".join(f"{of[name]:.3f}" if name in of else "–" for name in columns) + " |"
        for system, of in figures.items()
    )
    count = f"{judged.get('utterances', judged.get('clips'))} utterances."
    return count + "\n\n" + head + rows


def _acted(judged: Mapping[str, Any], validation: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """What is said of RAVDESS below its table: aims, conditions, cross-validation."""
    of = judged["figures"]
    aims = ", ".join(
        f"{names} by itself {of[f'the model, {key}, clip by itself']['eight']:.3f} (aim: above {aim:.2f})"
        for names, key, aim in (("sound", "audio", 0.62), ("sound and face", "audio+vision", 0.7))
    )
    rows = "\n".join(
        f"| {system}, {name} | "
        + " | ".join(f"{v[head]:.3f}" if head in v else "–" for head in ("eight", "seven"))
        + " |"
        for system, found in validation.items()
        for name, v in found.items()
    )
    return (
        f"Eight classes: {aims}. *Clip by itself*: nothing else of the actor is known. *Beside the actor's other "
        "clips*: the other 59, without labels, tell the resting face and how the actor sounds and looks in general, as "
        "the rest of a recording does at use. RAVDESS's actors show all emotions alike often; where one mood lasts a "
        "whole recording, less is gained, or something is lost. Support vector machines read the same features of "
        "actors 1 to 18, without disturbed copies.\n\n"
        "Cross-validation over actors 1 to 18, three at a time, by which everything was chosen (one network of "
        "six):\n\n"
        "| system | eight | seven |\n| --- | --- | --- |\n" + rows
    )


def _differences(against: Mapping[str, Any]) -> str:
    metrics = list(next(iter(against.values())))
    head = "| the model less | " + " | ".join(metrics) + " |\n|" + " --- |" * (len(metrics) + 1) + "\n"
    return head + "\n".join(
        f"| {system} | "
        + " | ".join(
            f"{of[m]['difference']:+.3f} [{of[m]['interval'][0]:+.3f}, {of[m]['interval'][1]:+.3f}]"
            + (" *" if of[m]["better"] else "")
            for m in metrics
        )
        + " |"
        for system, of in against.items()
    ) + "\n\n\\* better, and the 95 % interval excludes 0."  # fmt: skip


def _cremad(clips: Mapping[str, Any]) -> str:
    head = "| clip, acted as | all together | text | audio | vision |\n| --- | --- | --- | --- | --- |\n"
    rows = "\n".join(
        f"| {name} | " + " | ".join(of.get(key, "–") for key in ("fused", "text", "audio", "vision")) + " |"
        for name, of in clips["clips"].items()
    )
    gap = ", ".join(f"{unit} {value:+.1f}" for unit, value in clips["gap"].items())
    return (
        "### Real clips\n\nFour clips of one CREMA-D actor, from the file on, by the shipped weights; the sentence "
        "says "
        "nothing of the emotion.\n\n"
        + head
        + rows
        + "\n\nThe gap between proxies and OpenFace's action units: how far "
        "the mean of the four clips is from RAVDESS's, in deviations over RAVDESS's clips: " + gap + "."
    )

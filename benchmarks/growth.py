"""Cost per utterance as videos and sequences grow: time, memory, exponents, a plot.

    python benchmarks/growth.py [--models ...] [--longest 5000] [--seconds 6] [--json FILE] [--svg FILE]

Contextual models read videos of 4 to 400 utterances, 400 utterances in all at each point. Sequence models read two
utterances of 50 to 5,000 steps in each of three modalities, in the unaligned view. Features are random and 32, 16 and
16 wide, models have their published settings. A point is one training step, forward and backward, in a process of its
own: seconds of the processor (the faster of two where the first took less than a second) and the growth of the
process's memory above what it was before (the peak, VmHWM). A point that, by the two before it, would take longer than
--seconds or more than 6 GB is not measured, and the table says so.

The exponent is the slope of the cost of an utterance in logarithms over the last three points: 0 is a cost that does
not depend on the length of the video, 1 one that is proportional to it; for sequences 1 is linear in the steps and 2
quadratic.
"""

import argparse
import gc
import json
import math
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from markupsafe import Markup

from affectus.models import MODELS, Model
from affectus.report.charts.drawing import element
from affectus.testing.batches import make_batch, make_tasks
from affectus.threads import torch_threads
from affectus.vocabulary import View

DIMS = {"text": 32, "audio": 16, "vision": 16}
CONTEXTUAL = ("mtmm_es", "mmmu_ba", "bc_lstm")
SEQUENCES = (
    *("lf_dnn", "lmf", "tfn", "self_mm", "misa", "mmim", "ef_lstm", "hazarika_sa", "teney"),
    *("mfn", "graph_mfn", "marn", "mv_lstm", "mult", "ufen_mtfn"),
)
UTTERANCES = (4, 10, 20, 40, 100, 200, 400)
STEPS = (50, 100, 200, 500, 1000, 2000, 5000)
MOST_MIB = 6000.0
TOO_LONG = "longer than was waited for"
TOO_LARGE = "more memory than was allowed"


def _memory(key: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("needs Linux's /proc")


def _step(name: str, length: int, contextual: bool) -> tuple[float, float]:
    """Do a training step and return seconds and MiB per utterance."""
    torch.manual_seed(0)
    view = View.CONTEXTUAL if contextual else View.UNALIGNED
    count = max(UTTERANCES[-1] // length, 1) if contextual else 2
    batch = make_batch(view, dims=DIMS, lengths=[length] * count)
    model = MODELS[name].create(DIMS, make_tasks("intensity"), {})
    assert isinstance(model, Model)
    stages = model.stages()
    model.stage = stages[-1].name
    model.train()
    utterances = count * length if contextual else count
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
    before, best = _memory("VmRSS"), math.inf
    with torch_threads(1):  # as training does
        for _ in range(2):
            begun = time.process_time()
            losses = model.losses(model(batch), batch)
            sum(losses.values(), torch.zeros(())).backward()
            best = min(best, time.process_time() - begun)
            if best > 1.0:
                break
    return best / utterances, max(_memory("VmHWM") - before, 0.0) / utterances


def _child(name: str, length: int, contextual: bool, pipe: Any) -> None:
    try:
        pipe.send(_step(name, length, contextual))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def measure(name: str, length: int, contextual: bool) -> tuple[float, float]:
    """Measure a point in a fork, whose memory goes with it."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(name, length, contextual, theirs))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        raise SystemExit(f"{name} at {length} ended without a word") from None
    process.join()
    if isinstance(found, str):
        raise SystemExit(f"{name} at {length}: {found}")
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the exponent over the last three points, by least squares of the logarithms."""
    logs = [(math.log(x), math.log(max(y, 1e-9))) for x, y in points[-3:]]
    x, y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((a - x) * (b - y) for a, b in logs) / sum((a - x) ** 2 for a, _ in logs)


def grow(name: str, contextual: bool, longest: int, patience: float) -> dict[str, Any]:
    """Measure a model at growing lengths, as far as it is worth waiting for."""
    points: list[dict[str, float]] = []
    ended = ""
    for length in UTTERANCES if contextual else STEPS:
        if length > longest:
            break
        utterances = UTTERANCES[-1] if contextual else 2
        if len(points) > 1:
            for key, most, why in (("seconds", patience, TOO_LONG), ("mib", MOST_MIB, TOO_LARGE)):
                known = [(point["length"], point[key]) for point in points[-2:]]
                guess = known[-1][1] * (length / known[-1][0]) ** max(slope(known), 0.0)
                if guess * utterances > most:
                    ended = f"{length}: {why}"
        if ended:
            break
        seconds, mib = measure(name, length, contextual)
        points.append({"length": length, "seconds": seconds, "mib": mib})
        print(f"{name:<12} {length:5d}: {1000 * seconds:9.3f} ms, {mib:9.3f} MiB an utterance", flush=True)
    exponents = {key: slope([(point["length"], point[key]) for point in points]) for key in ("seconds", "mib")}
    return {"contextual": contextual, "points": points, "exponents": exponents, "ended": ended}


def table(found: dict[str, dict[str, Any]], contextual: bool) -> str:
    """Return the figures of one kind of models as Markdown."""
    chosen = {name: entry for name, entry in found.items() if entry["contextual"] is contextual}
    shown = (4, 40, 400) if contextual else (50, 500, 5000)
    unit = "utterances" if contextual else "steps"
    head = [f"{length:,} {unit}: ms" for length in shown] + [f"{length:,}: MiB" for length in shown]
    head += ["exponent of time", "of memory", "measured up to"]
    lines = ["| model | " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(head)]
    for name, entry in chosen.items():
        points = {int(point["length"]): point for point in entry["points"]}
        cells = [f"{1000 * points[x]['seconds']:.2f}" if x in points else "–" for x in shown]
        cells += [f"{points[x]['mib']:.2f}" if x in points else "–" for x in shown]
        cells += [f"{entry['exponents'][key]:.2f}" for key in ("seconds", "mib")]
        cells += [f"{max(points):,}"]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


WIDTH, HEIGHT, LEFT, BOTTOM, TOP, GAP = 420.0, 330.0, 62.0, 40.0, 26.0, 110.0
COLOURS = ("#3f51b5", "#e65100", "#2e7d32", "#c62828", "#6a1b9a", "#00838f", "#795548", "#9e9d24")


def _panel(found: dict[str, dict[str, Any]], contextual: bool, left: float) -> list[Markup]:
    chosen = {name: entry for name, entry in found.items() if entry["contextual"] is contextual and entry["points"]}
    if not chosen:
        return []
    xs = [point["length"] for entry in chosen.values() for point in entry["points"]]
    ys = [1000 * point["seconds"] for entry in chosen.values() for point in entry["points"]]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    first, last = math.log10(min(xs)), math.log10(max(xs))
    right, floor = left + WIDTH - LEFT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return round(left + (math.log10(value) - first) / (last - first) * (right - left), 1)

    def y(value: float) -> float:
        return round(floor - (math.log10(value) - low) / (high - low) * (floor - TOP), 1)

    title = "Length of a video, utterances" if contextual else "Length of a sequence, steps"
    parts = [element("text", title, x=(left + right) / 2, y=HEIGHT - 6, text_anchor="middle")]
    parts.append(element("text", "ms of an utterance", x=left - 40, y=TOP - 10))
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(element("line", x1=left, x2=right, y1=at, y2=at, stroke="#8888", stroke_width=0.5))
        parts.append(element("text", f"{10.0**power:g}", x=left - 6, y=at + 4, text_anchor="end"))
    for value in sorted(set(xs)):
        parts.append(element("text", f"{value:,}", x=x(value), y=floor + 15, text_anchor="middle"))
    ends: list[float] = []
    for number, (name, entry) in enumerate(sorted(chosen.items(), key=lambda one: one[1]["points"][-1]["seconds"])):
        colour, dash = COLOURS[number % len(COLOURS)], "none" if number < len(COLOURS) else "5 3"
        line = " ".join(f"{x(point['length'])},{y(1000 * point['seconds'])}" for point in entry["points"])
        parts.append(
            element("polyline", points=line, fill="none", stroke=colour, stroke_width=1.6, stroke_dasharray=dash)
        )
        tip = y(1000 * entry["points"][-1]["seconds"])
        at = tip + 4 if not ends else min(tip + 4, ends[-1] - 12)  # names do not overlap
        ends.append(at)
        parts.append(element("text", name, x=right + 6, y=round(at, 1), fill=colour))
    return parts


def draw(found: dict[str, dict[str, Any]]) -> str:
    """Return both plots, logarithmic in both directions, as one SVG."""
    parts = [*_panel(found, True, LEFT), *_panel(found, False, LEFT + WIDTH + GAP)]
    picture = element(
        "svg",
        element("style", "text { font: 11px sans-serif } text:not([fill]) { fill: #777 }"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {2 * (WIDTH + GAP)} {HEIGHT}",
        role="img",
        aria_label="Time per utterance against length, contextual and sequence models",
    )
    return str(picture) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join((*CONTEXTUAL, *SEQUENCES)))
    parser.add_argument("--longest", type=int, default=STEPS[-1])
    parser.add_argument("--seconds", type=float, default=6.0, help="of a step, at most")
    parser.add_argument("--json", type=Path, help="figures; models in it already are not measured again")
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    if arguments.json and arguments.json.is_file():
        found = json.loads(arguments.json.read_text(encoding="utf-8"))
    for name in arguments.models.split(","):
        if name not in found:
            found[name] = grow(name, name in CONTEXTUAL, arguments.longest, arguments.seconds)
            if arguments.json:
                arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found, True), table(found, False), sep="\n\n")
    for name, entry in found.items():
        if entry["ended"]:
            print(f"{name}: not measured at {entry['ended']}")
    if arguments.svg:
        arguments.svg.write_text(draw(found), encoding="utf-8")


if __name__ == "__main__":
    main()

"""How long `affectus analyze` takes, stage by stage, and how much memory for one minute and for thirty.

    python benchmarks/analyze.py [--source examples/sample.mp4] [--seconds 60] [--minutes 30] [--work runs/analyze]

The source is looped and scaled to 640x360 at 25 pictures a second. Memory is the largest resident size of a process.
Run it on an idle machine, since what else runs there counts too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

FPS, RATE = 25, 16_000
CHILD = """
import json, resource, sys, time
start = time.perf_counter()
from affectus.predict.analyze import analyze
found = analyze(sys.argv[1], threads=int(sys.argv[2]))
print(json.dumps({
    "seconds": found.seconds, "wall": time.perf_counter() - start, "duration": found.duration,
    "cpu": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
    "utterances": len(found.utterances), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def looped(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield pictures and sound of a file over and over."""
    while True:
        with av.open(str(path)) as container:
            for frame in container.decode(*[s for s in container.streams if s.type in ("video", "audio")]):
                yield ("video" if isinstance(frame, av.VideoFrame) else "audio"), frame


def make(source: Path, seconds: float, out: Path) -> None:
    """Write the source again and again until it is so long, at 640x360."""
    if out.is_file():
        return
    temporary = out.with_suffix(".part.mp4")
    with av.open(str(source)) as container:
        rate = float(container.streams.video[0].average_rate or FPS)
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
    pictures = samples = shown = 0
    with av.open(str(temporary), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "threads": "1"})
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for kind, frame in looped(source):
            if pictures >= seconds * FPS and samples >= seconds * RATE:
                break
            if kind == "video" and pictures < seconds * FPS:
                image = frame.reformat(width=360, height=360, format="rgb24").to_ndarray()
                wide = np.pad(image, ((0, 0), (140, 140), (0, 0)))
                shown += 1
                while pictures < shown * FPS / rate and pictures < seconds * FPS:
                    picture = av.VideoFrame.from_ndarray(wide, format="rgb24")
                    picture.pts = pictures
                    container.mux(video.encode(picture))
                    pictures += 1
            elif kind == "audio" and samples < seconds * RATE:
                frame.pts = None
                for block in resampler.resample(frame):
                    block.pts = samples
                    samples += block.samples
                    container.mux(audio.encode(block))
        container.mux(video.encode())
        container.mux(audio.encode())
    temporary.rename(out)


def measure(path: Path, threads: int) -> dict[str, Any]:
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(threads)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "process": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("examples/sample.mp4"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--minutes", type=float, default=30, help="Of the long file; 0 leaves it out.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/analyze"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for seconds in [arguments.seconds, *([60 * arguments.minutes] if arguments.minutes else [])]:
        path = arguments.work / f"loop-{seconds:g}.mp4"
        make(arguments.source, seconds, path)
        found = {**measure(path, arguments.threads), "load": os.getloadavg()[0]}
        rows.append(found)
        length = found["duration"]
        print(f"{length:7.1f} s, {found['utterances']} utterances: {found['wall'] / length:.3f} x real time "
              f"({found['cpu'] / length:.3f} of processor time), {found['peak_mb']:.0f} MB, load {found['load']:.1f}",
              flush=True)  # fmt: skip
        for stage, spent in found["seconds"].items():
            print(f"    {stage:22s} {spent:8.2f} s  {spent / length:.3f} x", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

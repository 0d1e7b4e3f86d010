"""How long `affectus analyze` takes, stage by stage, and how much memory recordings of 1 to 30 minutes need.

    python benchmarks/analyze.py [--source examples/sample.mp4] [--minutes 1 30] [--threads 1] [--work runs/analyze]

The source is looped and scaled to 640x360 at 25 pictures a second; longer files repeat the packets of one minute. Each
length is read in a process of its own, from the start of Python to the written folder, the page included. Memory is the
largest resident size of that process. Time is told twice: by the clock, which other work on the machine lengthens, and
of the processor, over all threads.
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

FPS, RATE, MINUTE = 25, 16_000, 60
CHILD = """
import json, resource, sys, tempfile, time
start, heights, told = time.perf_counter(), {}, 0.0

def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize() / 2**20

def report(what, share):
    global told
    if time.perf_counter() - told > 0.1:
        told = time.perf_counter()
        heights[what] = max(heights.get(what, 0.0), resident())

from affectus.predict.analyze import analyze
from affectus.report.analysis import write_analysis
imported = time.perf_counter()
options = {"fps": float(sys.argv[3])} if sys.argv[3] else {}
found = analyze(sys.argv[1], threads=int(sys.argv[2]), report=report, **options)
seconds = {"importing": imported - start, **found.seconds}
before = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    write_analysis(found, folder + "/out", source=sys.argv[1])
seconds["writing"], heights["writing"] = time.perf_counter() - before, resident()
print(json.dumps({
    "seconds": seconds, "resident_mb": heights, "duration": found.duration, "utterances": len(found.utterances),
    "wall": time.perf_counter() - start, "processor": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
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


def repeat(minute: Path, times: int, out: Path) -> None:
    """Write the packets of a file so many times, one after another."""
    temporary = out.with_suffix(".part.mp4")
    with av.open(str(temporary), "w") as made:
        streams: dict[int, Any] = {}
        for number in range(times):
            with av.open(str(minute)) as container:
                # a little more than the longest track, so that no packet comes before the last one of its track
                length = (container.duration or 0) / av.time_base + 0.1
                for stream in container.streams:
                    if stream.index not in streams:
                        streams[stream.index] = made.add_stream_from_template(stream)
                for packet in container.demux():
                    if packet.dts is None:
                        continue
                    shift = round(number * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    made.mux(packet)
    temporary.rename(out)


def measure(path: Path, threads: int, fps: float | None) -> dict[str, Any]:
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(threads), str(fps or "")],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "process": time.perf_counter() - started, "load": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("examples/sample.mp4"))
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 30])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fps", type=float, help="Pictures a second that are looked at; default: as analyze.")
    parser.add_argument("--work", type=Path, default=Path("runs/analyze"))
    parser.add_argument("--json", type=Path, help="File to which a line is added for each length.")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    minute = arguments.work / "loop-60.mp4"
    if not minute.is_file():
        make(arguments.source, MINUTE, minute)
    for minutes in arguments.minutes:
        path = arguments.work / f"loop-{minutes * MINUTE}.mp4"
        if not path.is_file():
            repeat(minute, minutes, path)
        found = {"minutes": minutes, **measure(path, arguments.threads, arguments.fps)}
        length = found["duration"]
        print(f"{length:7.1f} s, {found['utterances']} utterances: {found['process'] / length:.3f} x real time "
              f"({found['processor'] / length:.3f} of the processor), {found['peak_mb']:.0f} MB, "
              f"load {found['load']:.1f}", flush=True)  # fmt: skip
        for stage, spent in found["seconds"].items():
            height = found["resident_mb"].get(stage, float("nan"))
            print(f"    {stage:22s} {spent:8.2f} s  {spent / length:.3f} x  {height:6.0f} MB", flush=True)
        if arguments.json:
            with arguments.json.open("a") as stream:
                stream.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

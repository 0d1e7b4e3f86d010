"""Faces: processor time by stage, what size and turning do to the values, and which action units move in CREMA-D clips.

Times are processor time of one thread, so that other work on the machine does not count; the stages of one picture are
timed one after another and the median over pictures is given.

Usage: python benchmarks/faces.py --data DIR [--out FILE]   (DIR: the folder with cremad_clips and ravdess)
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affectus.features.media.decoding import Frame, video_frames
from affectus.features.media.faces.action_units import ACTION_UNITS, VISION_COLUMNS, WEAK, action_units
from affectus.features.media.faces.detection import Detector
from affectus.features.media.faces.landmarks import PIXELS, LandmarkReader, region_of
from affectus.features.media.faces.networks import BLENDSHAPES, DETECTOR, GEOMETRY, LANDMARKS, Network, model_parts
from affectus.features.media.faces.pose import head_pose, read_mean_face
from affectus.features.media.faces.regions import Region, cut
from affectus.features.media.faces.tracks import Face, FaceReader, vector
from affectus.files import write_json

EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fearful", "NEU": "neutral"}
WIDTH, HEIGHT = 640, 360
Clips = dict[str, list[Frame]]


def clips(data: Path, fps: float) -> Clips:
    return {e: list(video_frames(data / "cremad_clips" / f"1001_DFA_{e}_XX.flv", fps)) for e in EMOTIONS}


def wide(image: np.ndarray) -> np.ndarray:
    """Put a picture in the middle of one of 640 x 360."""
    found = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left = (WIDTH - image.shape[1]) // 2
    found[:, left : left + image.shape[1]] = image[:HEIGHT]
    return found


def milliseconds(work: Callable[[], object], times: int = 40) -> float:
    taken = []
    for _ in range(times):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return 1000 * float(np.median(taken))


def stages(found: Clips) -> dict[str, float]:
    parts = model_parts()
    detector = Detector(Network(parts[DETECTOR]))
    network = Network(parts[LANDMARKS])
    reader = LandmarkReader(network, Network(parts[BLENDSHAPES]))
    mean_face = read_mean_face(parts[GEOMETRY])
    image = wide(found["NEU"][0].image)
    points, _ = reader.points(image, detector.find(image)[0].region)
    region = region_of(points)
    shown = cut(image, region, PIXELS) / np.float32(255)
    return {
        "search (4 squares)": milliseconds(lambda: detector.find(image)),
        "cut with rotation": milliseconds(lambda: cut(image, region, PIXELS)),
        "478 landmarks": milliseconds(lambda: network(shown)),
        "52 blendshapes": milliseconds(lambda: reader.blendshapes(points)),
        "head pose": milliseconds(lambda: head_pose(points, mean_face).in_head(points)),
    }


def per_picture(found: Clips) -> dict[str, float]:
    one = [wide(frame.image) for e in EMOTIONS for frame in found[e]]
    half = WIDTH // 2
    two = [np.concatenate([a[:, half // 2 :][:, :half], b[:, half // 2 :][:, :half]], axis=1) for a, b in zip(one, one)]
    result = {}
    for name, images in {"one face": one, "two faces": two, "no face": [np.zeros_like(one[0])] * 40}.items():
        reader = FaceReader()
        frames = [Frame(k / 10, np.ascontiguousarray(image)) for k, image in enumerate(images)]
        list(reader.read(frames[:2]))
        before = time.process_time()
        seen = [len(faces) for faces in reader.read(frames)]
        result[f"{name} (mean {np.mean(seen):.2f} found)"] = 1000 * (time.process_time() - before) / len(frames)
    return result


def first(reader: FaceReader, image: np.ndarray) -> Face | None:
    return next(iter(next(reader.read([Frame(0.0, np.ascontiguousarray(image))]))), None)


def likeness(
    reader: FaceReader, images: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]
) -> dict[str, float]:
    """Compare the values of pictures with those of the same pictures changed."""
    pairs, lost = [], 0
    for image in images:
        before, after = first(reader, image), first(reader, change(image))
        if before is None or after is None:
            lost += 1
        else:
            pairs.append((before, after))
    if not pairs:
        return {"found": 0.0}
    a, b = (np.stack([one.blendshapes for one in side]) for side in zip(*pairs))
    poses, gazes = (
        np.abs(np.stack([getattr(x, name) - getattr(y, name) for x, y in pairs]))[:, :2].mean()
        for name in ("pose", "gaze")
    )
    return {
        "found": 1 - lost / len(images),
        "width": float(np.mean([y.box[2] - y.box[0] for _, y in pairs])),
        "r_blendshapes": float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
        "error_blendshapes": float(np.abs(a - b).mean()),
        "error_pitch_yaw": float(poses),
        "error_gaze": float(gazes),
    }


def changed(found: Clips) -> dict[str, dict[str, float]]:
    reader = FaceReader()
    images = [wide(frame.image) for e in EMOTIONS for frame in found[e][::3]]

    def smaller(image: np.ndarray, factor: float) -> np.ndarray:
        result = np.zeros_like(image)
        side = round(WIDTH * factor)
        part = cut(image, Region(WIDTH / 2, HEIGHT / 2, WIDTH), side)[round((WIDTH - HEIGHT) / 2 * factor) :]
        part = part[: round(HEIGHT * factor)]
        result[: len(part), :side] = part.round()
        return result

    def turned(image: np.ndarray, degrees: float) -> np.ndarray:
        return wide(
            cut(image, Region(WIDTH / 2, HEIGHT / 2, HEIGHT, np.radians(degrees)), HEIGHT).round().astype(np.uint8)
        )

    rows = {
        f"size x {f:g}": likeness(reader, images, lambda image, f=f: smaller(image, f)) for f in (0.75, 0.5, 0.35, 0.25)
    }
    rows |= {f"turned {d}": likeness(reader, images, lambda image, d=d: turned(image, d)) for d in (15, 30, 45, 60)}
    rng = np.random.default_rng(0)
    noisy = lambda image: np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)  # noqa: E731
    rows["noise of 8 grey levels"] = likeness(reader, images, noisy)
    rows["half the light"] = likeness(reader, images, lambda image: image // 2)
    return rows


def moves(found: Clips, data: Path) -> dict[str, object]:
    """Return mean action units per clip, and how they agree with RAVDESS's.

    Compared are the change from neutral with RAVDESS's mean change, and what a logistic regression that learned four
    emotions from RAVDESS's intensities tells of the clips' proxies.
    """
    reader = FaceReader()
    values = {e: np.stack([vector(faces[0]) for faces in reader.read(found[e]) if faces]) for e in EMOTIONS}
    begin = VISION_COLUMNS.index(ACTION_UNITS[0])
    means = {e: v[:, begin : begin + len(ACTION_UNITS)].mean(axis=0) for e, v in values.items()}
    assert np.allclose(action_units(values["NEU"][:, :52]).mean(axis=0), means["NEU"], atol=1e-4)
    result: dict[str, object] = {e: dict(zip(ACTION_UNITS, m.tolist(), strict=True)) for e, m in means.items()}
    with np.load(data / "ravdess" / "ravdess_au_mfcc.npz", allow_pickle=False) as bundle:
        train = bundle["actor"] <= 18
        units, names = bundle["visual_au35"][train][:, :17], bundle["emotion_name"][train]
    known = {e: units[names == name].mean(axis=0) for e, name in EMOTIONS.items()}
    result["agreement"] = {
        f"{a} clip, RAVDESS {b}": float(np.corrcoef(means[a] - means["NEU"], known[b] - known["NEU"])[0, 1])
        for a in EMOTIONS
        for b in EMOTIONS
        if "NEU" not in (a, b)
    }
    rows = np.isin(names, list(EMOTIONS.values()))
    for kept in (ACTION_UNITS, tuple(unit for unit in ACTION_UNITS if unit not in WEAK)):
        columns = [ACTION_UNITS.index(unit) for unit in kept]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
        model.fit(units[rows][:, columns], names[rows])
        for e in EMOTIONS:
            told = dict(
                zip(model.classes_.tolist(), model.predict_proba(means[e][None, columns])[0].tolist(), strict=True)
            )
            result[f"{e}, RAVDESS's {len(kept)} units"] = told
    result["neutral, RAVDESS"] = dict(zip(ACTION_UNITS, known["NEU"].tolist(), strict=True))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = clips(options.data, 10.0)
    result: dict[str, object] = {}
    for name, part in {
        "milliseconds of a stage": lambda: stages(found),
        "milliseconds of a picture": lambda: per_picture(found),
        "changed pictures": lambda: changed(found),
        "action units": lambda: moves(found, options.data),
    }.items():
        result[name] = part()
        print(f"\n{name}")
        for key, value in result[name].items():  # type: ignore[attr-defined]
            shown = " ".join(f"{k} {x:.2f}" for k, x in value.items()) if isinstance(value, dict) else f"{value:.2f}"
            print(f"  {key:28} {shown}")
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()

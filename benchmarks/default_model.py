"""Trains the model that ships and writes its weights and card into the package.

    python benchmarks/default_model.py --data DATA --work runs/default --stage text|shipped-text|acted-cv

DATA is the folder of data sets (AFFECTUS_DATA). ``text`` tunes MiniLM by low-rank adapters, with the text branch, the
attention over neighbours and the heads; ``shipped-text`` takes all this from the weights that ship instead, so that the
rest can be learned anew within minutes; ``acted-cv`` cross-validates sound and action units over RAVDESS.
``default_card.py`` then learns sound and action units, calibrates, judges and writes. What is judged chooses nothing:
CMU-MOSEI's rows ``test`` are learned from (some of their videos are kept to choose by), its rows ``valid`` are judged;
MELD's train is learned from (some dialogues kept), its dev judged; of RAVDESS actors 1-16 are learned from, 17 and 18
kept, 19 and 20 judged; of CMU-MOSI the standard train is learned from and the standard valid judged.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.torch import load_file, save_file
from scipy.signal import resample_poly
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor, nn

from affectus.corpus import Corpus
from affectus.corpus.readers import import_corpus
from affectus.features.encoders import load_encoder
from affectus.features.media.acoustic import audio_features
from affectus.features.media.decoding import audio_blocks
from affectus.features.media.faces.action_units import ACTION_UNITS
from affectus.metrics import weighted_accuracy, weighted_f1
from affectus.nn.low_rank import add_low_rank, low_rank_parts
from affectus.predict.default.inputs import (
    AUDIO_FUNCTIONALS,
    OTHERS,
    VISION_FUNCTIONALS,
    audio_functionals,
    beside_others,
    unit_functionals,
)
from affectus.predict.default.model import WEIGHTS as WEIGHTS_FILE
from affectus.predict.default.model import packaged_file
from affectus.predict.default.network import CLIP, HEADS, RAVDESS_EMOTIONS, SOURCES, OpinionNetwork
from affectus.vocabulary import AUDIO, SEVEN_EMOTIONS, SIX_EMOTIONS, TEXT, VISION

SEED = 11
TOKENS = 64
RANK, SCALE = 32, 64.0
EPOCHS, UTTERANCES, WINDOW = 2, 32, 16
ADAPTER_RATE, HEAD_RATE, WARM_UP = 5e-4, 1e-3, 0.06
WEIGHTS = {"emotions": 1.0, "polarity": 1.0, "intensity": 1.0, "present": 1.5}


@dataclass
class Labels:
    """Of every utterance, for each head; NaN where unknown."""

    emotions: npt.NDArray[np.float32]
    polarity: npt.NDArray[np.float32]
    intensity: npt.NDArray[np.float32]
    present: npt.NDArray[np.float32]


@dataclass
class Part:
    """Utterances of one source, in recordings.

    Attributes:
        groups: rows of each recording, or of a window of it.
    """

    source: str
    texts: list[str]
    speakers: npt.NDArray[np.int64]
    videos: npt.NDArray[np.int64]
    labels: Labels
    groups: list[npt.NDArray[np.int64]] = field(default_factory=list)


def part_of(corpus: Corpus, source: str, split: str) -> Part:
    rows = corpus.rows(split)
    table = corpus.table[rows]
    count = len(rows)
    nan = np.full
    emotions, present = nan((count, 7), np.nan, np.float32), nan((count, 6), np.nan, np.float32)
    sentiment = table["sentiment"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    scaled = {"sims": 3.0, "meld": np.nan}.get(source, 1.0)
    intensity = (sentiment * scaled).astype(np.float32)
    polarity = np.where(np.isnan(sentiment), np.nan, np.sign(sentiment) + 1).astype(np.float32)
    if source == "sims":
        polarity[np.abs(sentiment) < 0.15] = 1
    if source == "mosei":
        raw = np.stack([table[name].cast(pl.Float32).to_numpy() for name in SIX_EMOTIONS], axis=1)
        total = raw.sum(axis=1, keepdims=True)
        # annotators give each emotion a strength: shares of them are a soft class; none if none has any
        shares = np.where(total > 0, raw / np.maximum(total, 1e-6), 0)
        emotions = np.concatenate([shares, (total == 0).astype(np.float32)], axis=1)
        present = (raw > 0).astype(np.float32)
    if source == "meld":
        index = [SEVEN_EMOTIONS.index(name) for name in table["emotion_class"].to_list()]
        emotions = np.eye(7, dtype=np.float32)[index]
    names = table["speaker"].to_list()
    known = {name: i for i, name in enumerate(sorted({n for n in names if n}))}
    speakers = np.array([known.get(n, 0) for n in names])  # one person per video, where none is named
    videos = table["video"].to_list()
    numbers = {video: i for i, video in enumerate(dict.fromkeys(videos))}
    video_of = np.array([numbers[v] for v in videos])
    part = Part(
        source, [t or "" for t in table["text"].to_list()], speakers, video_of,
        Labels(emotions.astype(np.float32), polarity, intensity, present),
    )  # fmt: skip
    part.groups = [np.flatnonzero(video_of == i) for i in range(len(numbers))]
    return part


def load_parts(data: Path) -> dict[str, dict[str, Part]]:
    """Return per role (train, kept, judged) the parts by source."""
    mosei = import_corpus(
        "mosei-text", data / "cmu_mosei/mosei_valtest_text.csv",
        rename_splits="test=train,valid=test", valid_fraction=0.15, seed=SEED,
    )  # fmt: skip
    meld = import_corpus(
        "meld", [data / "meld/train_sent_emo.csv", data / "meld/dev_sent_emo.csv"],
        rename_splits="valid=test", valid_fraction=0.1, seed=SEED,
    )  # fmt: skip
    mosi = import_corpus("mosi-npz", data / "cmu_mosi/mosi_utterance.npz")
    sims = import_corpus("sims", data / "ch_sims/simsv2_labels_text.csv", text_column="english")
    roles = {"train": "train", "kept": "valid", "judged": "test"}
    parts: dict[str, dict[str, Part]] = {role: {} for role in roles}
    for role, split in roles.items():
        parts[role]["mosei"] = part_of(mosei, "mosei", split)
        parts[role]["meld"] = part_of(meld, "meld", split)
    parts["train"]["mosi"] = part_of(mosi, "mosi", "train")
    parts["judged"]["mosi"] = part_of(mosi, "mosi", "valid")
    parts["train"]["sims"] = part_of(sims, "sims", "train")
    return parts


class TextReader(nn.Module):
    """MiniLM, tuned: texts -> the mean over their tokens."""

    def __init__(self, rank: int = RANK) -> None:
        super().__init__()
        encoder = load_encoder("minilm")
        self.tokenizer = encoder.tokenizer
        self.model = encoder.model
        self.model.pooler = None
        if rank:
            add_low_rank(self.model, rank, scale=SCALE, dropout=0.05)

    def forward(self, texts: Sequence[str], pieces: int = 2) -> Tensor:
        # texts of similar length together, since padding costs as much as text
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: list[Tensor] = [torch.empty(0)] * len(texts)
        size = -(-len(texts) // pieces)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            tokens = self.tokenizer(
                [texts[i] for i in chosen], padding=True, truncation=True, max_length=TOKENS, return_tensors="pt"
            )
            states = self.model(**tokens).last_hidden_state
            weights = tokens["attention_mask"][..., None].float()
            means = (states * weights).sum(1) / weights.sum(1)
            for i, mean in zip(chosen, means, strict=True):
                found[i] = mean
        return torch.stack(found)


def groups_of(part: Part, rng: np.random.Generator | None) -> list[npt.NDArray[np.int64]]:
    """Cut recordings into windows; at random places while training."""
    found = []
    for group in part.groups:
        if rng is not None and len(group) > WINDOW:
            cut = int(rng.integers(1, WINDOW + 1))
            found += [group[:cut], *(group[i : i + WINDOW] for i in range(cut, len(group), WINDOW))]
        else:
            found.append(group)
    return found


def batches(parts: dict[str, Part], rng: np.random.Generator) -> Iterator[list[tuple[Part, npt.NDArray[np.int64]]]]:
    every = [(part, group) for part in parts.values() for group in groups_of(part, rng)]
    rng.shuffle(every)  # type: ignore[arg-type]
    batch, size = [], 0
    for part, group in every:
        batch.append((part, group))
        size += len(group)
        if size >= UTTERANCES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def pad(batch: list[tuple[Part, npt.NDArray[np.int64]]]) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Return mask (B, U), speakers (B, U), source (B,) and the labels (B, U, size), NaN where unknown."""
    longest = max(len(group) for _, group in batch)
    mask = torch.zeros(len(batch), longest, dtype=torch.bool)
    speakers = torch.full((len(batch), longest), -1)
    labels = {name: torch.full((len(batch), longest, n), float("nan")) for name, n in HEADS.items()}
    labels["polarity"] = torch.full((len(batch), longest, 1), float("nan"))
    for i, (part, group) in enumerate(batch):
        mask[i, : len(group)] = True
        speakers[i, : len(group)] = torch.from_numpy(part.speakers[group])
        for name in labels:
            value = torch.from_numpy(getattr(part.labels, name)[group])
            labels[name][i, : len(group)] = value if value.ndim == 2 else value[:, None]
    return mask, speakers, torch.tensor([SOURCES.index(part.source) for part, _ in batch]), labels


def losses(said: dict[str, Tensor], labels: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean loss of each head over the utterances that have its label."""
    found = {}
    for name, target in labels.items():
        known = ~torch.isnan(target).any(dim=-1)
        if not known.any():
            continue
        given, wanted = said[name][known], target[known]
        if name == "emotions":
            found[name] = nn.functional.cross_entropy(given, wanted, label_smoothing=0.02)
        elif name == "polarity":
            found[name] = nn.functional.cross_entropy(given, wanted[:, 0].long())
        elif name == "intensity":
            found[name] = nn.functional.smooth_l1_loss(given, wanted)
        else:
            found[name] = nn.functional.binary_cross_entropy_with_logits(given, wanted)
    return found


def read_batch(network: OpinionNetwork, reader: TextReader, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    mask, speakers, source, labels = pad(batch)
    vectors = reader([part.texts[row] for part, group in batch for row in group])
    padded = torch.zeros(*mask.shape, vectors.shape[-1]).masked_scatter(mask[..., None], vectors)
    there = torch.zeros_like(mask)
    there[mask] = torch.tensor([bool(part.texts[row].strip()) for part, group in batch for row in group])
    return network({TEXT: padded}, {TEXT: there}, speakers, source), labels


@torch.inference_mode()
def tell(network: OpinionNetwork, reader: TextReader, part: Part) -> dict[str, npt.NDArray[np.float32]]:
    """Return per head what is said of every utterance of a part, in its order."""
    network.eval(), reader.eval()
    said: dict[str, list[npt.NDArray[np.float32]]] = {}
    rows: list[int] = []
    for group in part.groups:
        out, _ = read_batch(network, reader, [(part, group)])
        rows += group.tolist()
        for name in HEADS:
            said.setdefault(name, []).append(out[name][0].numpy())
    order = np.argsort(rows)
    return {name: np.concatenate(values)[order] for name, values in said.items()}


def figures(part: Part, said: dict[str, npt.NDArray[np.float32]]) -> dict[str, float]:
    """First figures, by fixed rules; the card has the thresholds that are chosen."""
    found = {}
    labels = part.labels
    known = ~np.isnan(labels.polarity)
    # as the project's task does: neutral counts as positive
    p = torch.from_numpy(said["polarity"]).softmax(-1).numpy()
    found["polarity.accuracy"] = float(((p[known, 0] < 0.5) == (labels.polarity[known] > 0)).mean())
    if not np.isnan(labels.intensity).all():
        found["intensity.pearson"] = float(np.corrcoef(said["intensity"][:, 0], labels.intensity)[0, 1])
        found["intensity.mae"] = float(np.abs(said["intensity"][:, 0] - labels.intensity).mean())
    if not np.isnan(labels.present).all():
        base = labels.present.mean(axis=0)
        p6 = 1 / (1 + np.exp(-said["present"]))
        found["present.weighted_accuracy"] = float(
            np.mean([weighted_accuracy(labels.present[:, i], p6[:, i] > base[i]) for i in range(6)])
        )
    if part.source == "meld":
        truth, best = labels.emotions.argmax(1), said["emotions"].argmax(1)
        found["emotion_class.weighted_f1"] = weighted_f1(truth, best)
        found["emotion_class.accuracy"] = float((truth == best).mean())
    return found


def train_text(parts: dict[str, dict[str, Part]], work: Path, epochs: int, limit: int | None) -> None:
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    reader = TextReader()
    network = OpinionNetwork({TEXT: 384})
    for i, source in enumerate(SOURCES):  # each source's prior begins at how often it says what
        if source in parts["train"]:
            labels = parts["train"][source].labels
            if not np.isnan(labels.emotions).all():
                share = np.maximum(np.nanmean(labels.emotions, axis=0), 1e-3)
                network.priors["emotions"].data[i] = torch.from_numpy(np.log(share))
            signs = labels.polarity[~np.isnan(labels.polarity)]
            share = np.maximum([np.mean(signs == k) for k in range(3)], 1e-3)
            network.priors["polarity"].data[i] = torch.from_numpy(np.log(share)).float()
    adapters = [p for p in reader.parameters() if p.requires_grad]
    steps = sum(1 for _ in batches(parts["train"], np.random.default_rng(SEED))) * epochs
    optimizer = torch.optim.AdamW(
        [{"params": adapters, "lr": ADAPTER_RATE}, {"params": network.parameters(), "lr": HEAD_RATE}], weight_decay=0.01
    )
    warm = max(int(WARM_UP * steps), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(steps - warm, 1)))
    )
    history, best, start, step = [], -1.0, time.time(), 0
    for epoch in range(epochs):
        network.train(), reader.train()
        for batch in batches(parts["train"], rng):
            said, labels = read_batch(network, reader, batch)
            every = losses(said, labels)
            loss = torch.stack([WEIGHTS[name] * value for name, value in every.items()]).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*adapters, *network.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 50 == 0:
                print(f"{time.time() - start:6.0f} s  step {step}/{steps}  loss {loss.item():.3f}", flush=True)
            if limit and step >= limit:
                break
        found = {source: figures(part, tell(network, reader, part)) for source, part in parts["kept"].items()}
        chosen = np.mean([
            found["mosei"]["polarity.accuracy"], found["mosei"]["intensity.pearson"],
            found["mosei"]["present.weighted_accuracy"], found["meld"]["emotion_class.weighted_f1"],
        ])  # fmt: skip
        history.append({"epoch": epoch, "choice": float(chosen), **found})
        print(json.dumps(history[-1], indent=1), flush=True)
        if chosen > best:
            best = float(chosen)
            work.mkdir(parents=True, exist_ok=True)
            save_file(
                {k: v.contiguous() for k, v in low_rank_parts(reader.model).items()}, work / "adapters.safetensors"
            )
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, work / "text.safetensors")
            (work / "text.json").write_text(json.dumps(history, indent=1))
        if limit and step >= limit:
            break


@dataclass
class Acted:
    """RAVDESS: per clip what is read of it, and its class of eight.

    Attributes:
        sound: (1 + copies, N, dim) statistics of the sound, not scaled: of the clips, then of disturbed copies of them.
        units: (N, dim) mean intensity of the action units that are read.
    """

    sound: npt.NDArray[np.float32]
    units: npt.NDArray[np.float32]
    emotion: npt.NDArray[np.int64]
    actor: npt.NDArray[np.int64]

    def rows(self, role: str) -> npt.NDArray[np.int64]:
        low, high = {"train": (1, 16), "kept": (17, 18), "judged": (19, 20)}[role]
        return np.flatnonzero((self.actor >= low) & (self.actor <= high))

    def rested(self) -> npt.NDArray[np.float32]:
        """Return (N, dim) the units less each actor's resting face, as :func:`resting_units` takes it off at use."""
        found = self.units.copy()
        for actor in np.unique(self.actor):
            own = self.actor == actor
            found[own] -= np.percentile(found[own], 10, axis=0)
        return np.maximum(found, 0)

    def clips(self, rows: npt.NDArray[np.int64], *, known: bool) -> dict[str, npt.NDArray[np.float32]]:
        """Return what is read of some clips; ``known``: the actor's resting face is."""
        return {AUDIO: self.sound[0, rows], VISION: unit_functionals((self.rested() if known else self.units)[rows])}


COPIES = ((85, False), (92, False), (108, False), (117, False), (95, True), (105, True), (100, True))
"""Copies of RAVDESS to learn from: speed in per cent (pitch and formants move along), and whether with noise."""


def disturbed(samples: npt.NDArray[np.floating], speed: int, noise: bool, rng: np.random.Generator) -> Any:
    """Return sound as another person, microphone or room might have it: faster or slower, noisy, at another gain."""
    y = resample_poly(samples, 100, speed).astype(np.float32) if speed != 100 else np.asarray(samples, np.float32)
    if noise:
        spectrum = np.fft.rfft(rng.standard_normal(len(y)))
        coloured = np.fft.irfft(spectrum / (np.arange(len(spectrum)) + 10.0) ** rng.uniform(0, 0.5), len(y))
        ratio = 10 ** (rng.uniform(8, 28) / 10)
        y = y + coloured * np.sqrt(np.mean(np.square(y)) / ratio / np.mean(coloured * coloured))
    return (y * 10 ** (rng.uniform(-12, 6) / 20)).astype(np.float32)


def load_acted(data: Path, work: Path) -> Acted:
    """Read RAVDESS; the sound's frames take minutes and are kept in the work folder."""
    bundle = np.load(data / "ravdess/ravdess_au_mfcc.npz", allow_pickle=False)
    work.mkdir(parents=True, exist_ok=True)
    sound = []
    for number, (speed, noise) in enumerate(((100, None), *COPIES)):
        cache = work / f"ravdess_frames_{number}.npz"
        if not cache.is_file():
            rng = np.random.default_rng(number - 1 if number else 0)
            frames = []
            for name in bundle["flac"]:
                samples = np.concatenate(list(audio_blocks(data / "ravdess/flac16k" / str(name))))
                samples = samples if noise is None else disturbed(samples, speed, noise, rng)
                frames.append(audio_features(samples, chroma=False))
            np.savez(cache, values=np.concatenate(frames), offsets=np.cumsum([0] + [len(x) for x in frames]))
            print(f"sound of RAVDESS, copy {number} of {len(COPIES)}", flush=True)
        frames, offsets = np.load(cache)["values"], np.load(cache)["offsets"]
        read = [audio_functionals(frames[a:b]) for a, b in itertools.pairwise(offsets)]
        assert all(x is not None for x in read)
        sound.append(np.stack(read))
    # the first 17 columns are OpenFace's intensities, means over the clip
    units = np.maximum(bundle["visual_au35"][:, [ACTION_UNITS.index(name) for name in VISION_FUNCTIONALS]], 0)
    return Acted(
        np.stack(sound), units, bundle["emotion"].astype(np.int64) - 1, bundle["actor"].astype(np.int64)
    )  # fmt: skip


def sentiment_of_emotions(part: Part) -> npt.NDArray[np.float32]:
    """Return (7,) the mean sentiment of MOSEI's utterances by their strongest emotion: what RAVDESS lacks."""
    strongest = part.labels.emotions.argmax(axis=1)
    return np.array([part.labels.intensity[strongest == k].mean() for k in range(7)], np.float32)


SEVEN_OF_EIGHT = np.array([SEVEN_EMOTIONS.index("none" if name == "calm" else name) for name in RAVDESS_EMOTIONS])
POLARITY_OF_SEVEN = np.array([{"happiness": 2, "none": 1, "surprise": -1}.get(name, 0) for name in SEVEN_EMOTIONS])
WIDTHS = {AUDIO: 256, VISION: 64}
MEMBERS = 6
ACTED_EPOCHS, ACTED_BATCH, ACTED_RATE, MIX, CHANNEL, UNIT_SCALE = 80, 64, 3e-3, 0.4, 0.15, 0.3
"""Chosen by cross-validation over actors 1 to 18, before the judged actors were looked at."""
ALONE = 0.5
"""So many clips are read by themselves in training."""
_PLACES = ("mean", "p10", "p90")


def distort(x: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Shift the sound's spectrum as another microphone would, and action units as another reader of faces."""
    found = dict(x)
    if AUDIO in x:
        shift = torch.zeros_like(x[AUDIO])
        for i in range(20):
            columns = [k for k, name in enumerate(AUDIO_FUNCTIONALS)
                       if name.startswith(f"mfcc_{i}.") and name.rsplit(".", 1)[-1] in _PLACES]  # fmt: skip
            shift[:, columns] = CHANNEL * torch.randn(len(shift), 1, generator=generator)
        found[AUDIO] = x[AUDIO] + shift
    if VISION in x:
        found[VISION] = x[VISION] + UNIT_SCALE * torch.randn(x[VISION].shape, generator=generator)
    return found


class Drawn:
    """Clips as they are read in training: a disturbed copy or the clip itself; by itself, or beside other clips of its
    actor, in number at random, that tell the resting face and how the actor sounds and looks in general.

    Args:
        acted: RAVDESS.
        rows: clips that are learned from.
        rng: draws.
    """

    def __init__(self, acted: Acted, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> None:
        self.rng, self.units = rng, acted.units[rows]
        both = np.concatenate([acted.clips(rows, known=known)[VISION] for known in (False, True)])
        self.scaling = {
            name: (torch.from_numpy(x.mean(axis=0)), torch.from_numpy(x.std(axis=0)).clamp(min=1e-3))
            for name, x in ((AUDIO, acted.sound[0, rows]), (VISION, both))
        }
        mean, deviation = (t.numpy() for t in self.scaling[AUDIO])
        self.sound = np.clip((acted.sound[:, rows] - mean) / deviation, -CLIP, CLIP)
        self.actors = [np.flatnonzero(acted.actor[rows] == actor) for actor in np.unique(acted.actor[rows])]

    def epoch(self) -> dict[str, Tensor]:
        """Return the scaled features of all clips, drawn anew."""
        mean, deviation = (t.numpy() for t in self.scaling[VISION])
        copies = self.rng.integers(0, len(self.sound), len(self.units))
        sound = self.sound[copies, np.arange(len(self.units))]
        face = (unit_functionals(self.units) - mean) / deviation
        for clips in self.actors:
            beside = self.rng.permutation(clips)[: int(self.rng.integers(4, len(clips) + 1))]
            seen = unit_functionals(self.units[clips] - np.percentile(self.units[beside], 10, axis=0))
            seen = (seen - mean) / deviation
            of_copies = np.stack([self._beside_others(x[clips], clips, x[beside], beside) for x in self.sound])
            face_beside = self._beside_others(seen, clips, seen[np.isin(clips, beside)], beside)
            known = self.rng.random(len(clips)) >= ALONE
            sound[clips[known]] = of_copies[copies[clips], np.arange(len(clips))][known]
            face[clips[known]] = face_beside[known]
        return {AUDIO: torch.from_numpy(sound), VISION: torch.from_numpy(face)}

    @staticmethod
    def _beside_others(
        x: npt.NDArray[np.float32], clips: npt.NDArray[np.int64], others: npt.NDArray[np.float32],
        beside: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:  # fmt: skip
        """As :func:`beside_others`, of some clips beside some of them, without themselves."""
        own = np.isin(clips, beside)[:, None]
        count = len(beside) - own
        mean = (others.sum(axis=0) - own * x) / count
        return x - (count / (count + OTHERS) * mean).astype(np.float32)


def acted_loss(network: OpinionNetwork, evidence: Tensor, wanted: dict[str, Tensor]) -> Tensor:
    """Mean loss over clips of what evidence (B, hidden) says, each head with RAVDESS's prior."""
    said = {name: value[:, 0] for name, value in network.say(evidence[:, None], SOURCES.index("ravdess")).items()}
    return torch.stack([
        nn.functional.cross_entropy(network.ravdess(evidence), wanted["ravdess"], label_smoothing=0.1),
        nn.functional.cross_entropy(said["emotions"], wanted["emotions"], label_smoothing=0.05),
        -(said["polarity"].log_softmax(-1) * wanted["polarity"]).sum(-1).mean(),
        nn.functional.smooth_l1_loss(said["intensity"], wanted["intensity"]),
    ]).sum()  # fmt: skip


def train_acted(
    acted: Acted,
    rows: npt.NDArray[np.int64],
    network: OpinionNetwork,
    intensities: npt.NDArray[np.float32],
    seed: int = SEED,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Train the branches of sound and vision and the head of RAVDESS; the rest stays. Returns the scaling."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    drawn = Drawn(acted, rows, rng)
    eight = torch.from_numpy(acted.emotion[rows])
    seven = torch.from_numpy(SEVEN_OF_EIGHT[acted.emotion[rows]])
    place = SOURCES.index("ravdess")
    with torch.no_grad():
        share = torch.bincount(seven, minlength=7).float() / len(seven)
        network.priors["emotions"][place] = share.log()
        signs = torch.from_numpy(POLARITY_OF_SEVEN)[seven]
        network.priors["polarity"][place] = (torch.bincount(signs[signs >= 0], minlength=3) / len(seven)).log()
        network.priors["intensity"][place] = float(intensities[seven.numpy()].mean())
    targets = {
        "ravdess": nn.functional.one_hot(eight, 8).float(),
        "emotions": nn.functional.one_hot(seven, 7).float(),
        "polarity": nn.functional.one_hot(signs.clamp(min=0), 3).float() * (signs >= 0)[:, None],
        "intensity": torch.from_numpy(intensities)[seven][:, None],
    }
    network.requires_grad_(False)
    # every head stays, RAVDESS's own too: it is random, and evidence of 128 numbers can say anything through it,
    # so that members of an ensemble speak one language and can be averaged
    learned = [network.branches[AUDIO], network.branches[VISION]]
    parameters = [p for module in learned for p in module.requires_grad_(True).parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=ACTED_RATE, weight_decay=0.05)
    steps = ACTED_EPOCHS * (len(rows) // ACTED_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, ACTED_RATE, total_steps=steps)
    beta = torch.distributions.Beta(MIX, MIX)
    network.train()
    for _ in range(ACTED_EPOCHS):
        read = drawn.epoch()
        order = torch.randperm(len(rows), generator=generator)
        for start in range(0, len(rows) - ACTED_BATCH + 1, ACTED_BATCH):
            chosen = order[start : start + ACTED_BATCH]
            share, other = beta.sample(), torch.randperm(len(chosen), generator=generator)
            x = {name: share * v[chosen] + (1 - share) * v[chosen[other]] for name, v in read.items()}
            wanted = {name: share * v[chosen] + (1 - share) * v[chosen[other]] for name, v in targets.items()}
            evidence = {name: network.branches[name](v.clamp(-CLIP, CLIP)) for name, v in distort(x, generator).items()}
            # sound alone, face alone, both
            ways = (evidence[AUDIO], evidence[VISION], evidence[AUDIO] + evidence[VISION])
            loss = torch.stack([acted_loss(network, h, wanted) for h in ways]).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
    return drawn.scaling


def train_ensemble(
    acted: Acted,
    rows: npt.NDArray[np.int64],
    network: OpinionNetwork,
    intensities: npt.NDArray[np.float32],
    members: int = MEMBERS,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Train sound and vision several times and put the mean of the evidence into one network: side by side, each
    member's hidden layer is a part of one wide layer. Returns the scaling."""
    weights: list[dict[str, Tensor]] = []
    for seed in range(members):
        torch.manual_seed(SEED + seed)
        member = new_network(members=1)
        shared = {
            k: v for k, v in network.state_dict().items() if not k.startswith(("branches.audio", "branches.vision"))
        }
        member.load_state_dict(shared, strict=False)
        scaling = train_acted(acted, rows, member, intensities, seed=SEED + seed)
        weights.append(member.state_dict())
        print(f"member {seed + 1} of {members}", flush=True)
    state = network.state_dict()
    for name in (AUDIO, VISION):
        first, second = f"branches.{name}.1", f"branches.{name}.4"
        state[f"{first}.weight"] = torch.cat([w[f"{first}.weight"] for w in weights])
        state[f"{first}.bias"] = torch.cat([w[f"{first}.bias"] for w in weights])
        state[f"{second}.weight"] = torch.cat([w[f"{second}.weight"] for w in weights], dim=1) / members
        state[f"{second}.bias"] = torch.stack([w[f"{second}.bias"] for w in weights]).mean(dim=0)
    for name in HEADS:
        state[f"priors.{name}"] = weights[0][f"priors.{name}"]
    network.load_state_dict(state)
    return scaling


@torch.inference_mode()
def tell_acted(
    network: OpinionNetwork, scaling: dict[str, tuple[Tensor, Tensor]], acted: Acted, rows: npt.NDArray[np.int64],
    modalities: Sequence[str], *, known: bool,
) -> dict[str, Tensor]:  # fmt: skip
    """Return what is said of clips by some modalities, each head's logits with RAVDESS's prior.

    ``known``: beside the actor's other clips, as the model reads a recording of several utterances; otherwise each clip
    by itself.
    """
    network.eval()
    x = {}
    actors, there = torch.from_numpy(acted.actor[rows]), torch.ones(len(rows), dtype=torch.bool)
    for name, values in acted.clips(rows, known=known).items():
        if name in modalities:
            scaled = ((torch.from_numpy(values) - scaling[name][0]) / scaling[name][1]).clamp(-CLIP, CLIP)
            x[name] = (beside_others(scaled, there, actors) if known else scaled)[:, None]
    present = dict.fromkeys(x, there[:, None])
    return {name: value[:, 0] for name, value in network(x, present, source=SOURCES.index("ravdess")).items()}


def new_network(members: int = MEMBERS) -> OpinionNetwork:
    dims = {TEXT: 384, AUDIO: len(AUDIO_FUNCTIONALS), VISION: len(VISION_FUNCTIONALS)}
    return OpinionNetwork(dims, widths={name: members * width for name, width in WIDTHS.items()})


CONDITIONS = {"clip by itself": False, "beside the actor's other clips": True}


def acted_accuracies(
    network: OpinionNetwork, scaling: Any, acted: Acted, rows: npt.NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Return per modalities and condition the accuracy of RAVDESS's eight and of the seven."""
    found = {}
    for condition, known in CONDITIONS.items():
        for names in ((AUDIO,), (VISION,), (AUDIO, VISION)):
            said = tell_acted(network, scaling, acted, rows, names, known=known)
            found[f"{'+'.join(names)}, {condition}"] = {
                "eight": float((said["ravdess"].argmax(-1).numpy() == acted.emotion[rows]).mean()),
                "seven": float((said["emotions"].argmax(-1).numpy() == SEVEN_OF_EIGHT[acted.emotion[rows]]).mean()),
            }
    return found


def svm_accuracies(
    acted: Acted, train: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Return the same of support vector machines on the clips themselves, without copies."""
    found = {}
    for condition, known in CONDITIONS.items():
        x = acted.clips(np.arange(len(acted.actor)), known=known)
        if known:
            actors, there = torch.from_numpy(acted.actor), torch.ones(len(acted.actor), dtype=torch.bool)
            x = {name: beside_others(torch.from_numpy(v), there, actors).numpy() for name, v in x.items()}
        for names in ((AUDIO,), (VISION,), (AUDIO, VISION)):
            both = np.hstack([x[name] for name in names])
            svm = make_pipeline(StandardScaler(), SVC(C=3)).fit(both[train], acted.emotion[train])
            found[f"{'+'.join(names)}, {condition}"] = {"eight": float(svm.score(both[rows], acted.emotion[rows]))}
    return found


def cross_validate_acted(
    acted: Acted, intensities: npt.NDArray[np.float32], members: int, folds: Sequence[int]
) -> dict[str, dict[str, dict[str, float]]]:
    """Over actors 1 to 18, three at a time."""
    every: list[dict[str, dict[str, dict[str, float]]]] = []
    for first in folds:
        torch.manual_seed(SEED)
        network = new_network(members)
        out = (acted.actor >= first) & (acted.actor < first + 3)
        train = np.flatnonzero(~out & (acted.actor <= 18))
        scaling = train_ensemble(acted, train, network, intensities, members)
        every.append({
            "the model": acted_accuracies(network, scaling, acted, np.flatnonzero(out)),
            "SVM": svm_accuracies(acted, train, np.flatnonzero(out)),
        })  # fmt: skip
        print(json.dumps(every[-1]["the model"]), flush=True)
    return {
        system: {
            name: {head: round(float(np.mean([one[system][name][head] for one in every])), 3) for head in of}
            for name, of in every[0][system].items()
        }
        for system in every[0]
    }


def unpack_text(work: Path) -> None:
    """Write what the stage ``text`` writes from the weights that ship, rounded as they are."""
    shipped = load_file(packaged_file(WEIGHTS_FILE))
    work.mkdir(parents=True, exist_ok=True)
    adapters = {k.removeprefix("adapter."): v for k, v in shipped.items() if k.startswith("adapter.")}
    save_file(adapters, work / "adapters.safetensors")
    other = ("network.branches.audio", "network.branches.vision", "network.around")
    text = {k.removeprefix("network."): v.float() for k, v in shipped.items() if k.startswith("network.")
            and not k.startswith(other)}  # fmt: skip
    save_file(text, work / "text.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AFFECTUS_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=Path("runs/default"))
    parser.add_argument("--stage", choices=("text", "shipped-text", "acted-cv"), default="text")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--members", type=int, default=1, help="Of the ensemble that is cross-validated.")
    parser.add_argument("--limit", type=int, help="Stop after so many steps (a trial).")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.stage == "shipped-text":
        unpack_text(arguments.work)
        return
    parts = load_parts(arguments.data)
    if arguments.stage == "acted-cv":
        acted = load_acted(arguments.data, arguments.work)
        found = cross_validate_acted(
            acted, sentiment_of_emotions(parts["train"]["mosei"]), arguments.members, range(1, 19, 3)
        )
        (arguments.work / "acted_cv.json").write_text(json.dumps(found, indent=1))
        print(json.dumps(found, indent=1))
        return
    print({role: {s: len(p.texts) for s, p in of.items()} for role, of in parts.items()}, flush=True)
    train_text(parts, arguments.work, arguments.epochs, arguments.limit)


if __name__ == "__main__":
    main()

"""Make mmsa_metrics.json: what MMSA's own metric code gives on random and on awkward predictions.

MMSA is needed only here. In an environment of its own (made with Python 3.11):

    python3 -m venv mmsa-venv
    mmsa-venv/bin/pip install --no-deps MMSA==2.2.1
    mmsa-venv/bin/pip install torch==2.13.0 'transformers<5' pandas tqdm scikit-learn easydict nvidia-ml-py einops
    mmsa-venv/bin/python tests/golden/make_mmsa_metrics.py

Every case is scored by the rule for MOSI and MOSEI and by the rule for SIMS. The values are single precision, as in
MMSA; each is written with the fewest digits that read back as the same number. A result is a number rounded to four
decimals, "nan", or "raises X" where MMSA's code raises X.
"""

import json
import math
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from MMSA.utils.metricsTop import MetricsTop

RANDOM_CASES = 220
HALVES = [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
SIMS_CUTS = [-1.0, -0.7, -0.1, 0.0, 0.1, 0.7, 1.0]
BELOW_CUTS = [float(np.nextafter(np.float32(x), np.float32(-9))) for x in SIMS_CUTS]
ABOVE_CUTS = [float(np.nextafter(np.float32(x), np.float32(9))) for x in SIMS_CUTS]
MIXED = [-2.6, -1.0, -0.4, 0.0, 0.2, 0.8, 1.4, 3.0]


def random_cases(rng):
    label_makers = [
        lambda n: rng.integers(-15, 16, n) / 5,  # CMU-MOSI: means of five raters
        lambda n: rng.integers(-9, 10, n) / 3,  # CMU-MOSEI: means of three raters
        lambda n: rng.integers(-5, 6, n) / 5,  # CH-SIMS
        lambda n: rng.integers(-8, 9, n) / 2,
        lambda n: rng.normal(0, 1.5, n),
    ]
    prediction_makers = [
        lambda t: t + rng.normal(0, 0.5, len(t)),
        lambda t: rng.normal(0, 2, len(t)),
        lambda t: np.round(t + rng.normal(0, 0.4, len(t)), 1),
        lambda t: np.round(2 * t + rng.normal(0, 1, len(t))) / 2,
    ]
    for i in range(RANDOM_CASES):
        truth = label_makers[i % len(label_makers)](int(rng.integers(2, 30)))
        yield f"random {i}", truth, prediction_makers[i // len(label_makers) % len(prediction_makers)](truth)


def edge_cases():
    yield "halves, predicted as they are", HALVES, HALVES
    yield "halves, predicted one higher", HALVES, [x + 1 for x in HALVES]
    yield "halves against whole numbers below", HALVES, [math.floor(x) for x in HALVES]
    yield "halves against whole numbers above", HALVES, [math.ceil(x) for x in HALVES]
    yield "whole numbers against halves", [-3, -2, -1, 0, 1, 2, 3, 0], HALVES
    yield "a hair below the halves", HALVES, [float(np.nextafter(np.float32(x), np.float32(-9))) for x in HALVES]
    yield "a hair above the halves", HALVES, [float(np.nextafter(np.float32(x), np.float32(9))) for x in HALVES]
    yield "the cuts of SIMS, predicted as they are", SIMS_CUTS, SIMS_CUTS
    yield "the cuts of SIMS, predicted a hair lower", SIMS_CUTS, BELOW_CUTS
    yield "the cuts of SIMS, predicted a hair higher", SIMS_CUTS, ABOVE_CUTS
    yield "a hair lower, predicted a hair higher", BELOW_CUTS, ABOVE_CUTS
    yield "the cuts of SIMS in reverse", SIMS_CUTS, SIMS_CUTS[::-1]
    for cut in SIMS_CUTS:
        yield f"all truths {cut}", [cut] * len(SIMS_CUTS), SIMS_CUTS
        yield f"all predictions {cut}", SIMS_CUTS, [cut] * len(SIMS_CUTS)
    for constant in (-5.0, -2.5, -0.5, 0.3, 0.5, 1.5, 2.5, 5.0):
        yield f"all predictions {constant}, mixed truths", MIXED, [constant] * len(MIXED)
    yield "all neutral, all right", [0.0] * 5, [0.0] * 5
    yield "all neutral, predictions mixed", [0.0] * 5, [-1.0, -0.2, 0.0, 0.2, 1.0]
    yield "all neutral, negative zeros", [-0.0] * 3, [0.0, -0.0, 0.0]
    yield "predictions of zero", [-1.0, -0.2, 0.0, 0.2, 1.0], [0.0] * 5
    yield "negative zero predicted", [-1.0, 0.0, 1.0], [-0.0, -0.0, -0.0]
    yield "beyond the range", [-3.0, 3.0, -1.0, 1.0, 0.0], [-7.3, 12.0, -1.01, 1.01, 100.0]
    yield "truths beyond the range", [-4.0, 4.0, -1.2, 1.2], [-3.0, 3.0, -1.0, 1.0]
    yield "constant once clipped", [2.0, 3.0, 1.5], [1.0, 2.0, 5.0]
    yield "prediction constant once clipped", [-0.5, 0.0, 0.5], [1.0, 2.0, 5.0]
    yield "one utterance, right", [1.4], [1.4]
    yield "one utterance, wrong", [1.4], [-1.4]
    yield "one neutral utterance", [0.0], [0.1]
    yield "two utterances", [-1.0, 1.0], [0.1, 0.2]
    yield "two utterances, reversed", [-1.0, 1.0], [0.2, 0.1]
    yield "all negative, all found", [-1.0, -2.0, -0.4], [-0.1, -3.0, -1.0]
    yield "all negative, none found", [-1.0, -2.0, -0.4], [0.1, 3.0, 1.0]
    yield "all positive, half found", [1.0, 2.0, 0.4, 0.6], [0.1, -3.0, 1.0, -0.2]
    yield "opposite", MIXED, [-x for x in MIXED]
    yield "ten times too small", MIXED, [x / 10 for x in MIXED]
    yield "ten times too large", MIXED, [x * 10 for x in MIXED]
    yield "shifted by one", MIXED, [x + 1 for x in MIXED]
    yield "tiny predictions", MIXED, [x * 1e-20 for x in MIXED]
    yield "a tenth too high", SIMS_CUTS, [x + 0.1 for x in SIMS_CUTS]
    yield "a tenth too low", SIMS_CUTS, [x - 0.1 for x in SIMS_CUTS]


def main():
    rng = np.random.default_rng(1)
    top = MetricsTop("regression")
    lines = []
    for name, truth, prediction in [*edge_cases(), *random_cases(rng)]:
        truth, prediction = np.asarray(truth, np.float32), np.asarray(prediction, np.float32)
        tensors = torch.from_numpy(prediction), torch.from_numpy(truth)
        scores = {}
        for rule in ("MOSEI", "SIMS"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    scores[rule.lower()] = {key: readable(x) for key, x in top.getMetics(rule)(*tensors).items()}
            except Exception as error:
                scores[rule.lower()] = f"raises {type(error).__name__}"
        # MMSA computes a three-class accuracy for MOSI and MOSEI without returning it; this asks its helper.
        clipped = (np.clip(values, -1, 1) for values in (prediction, truth))
        scores["mosei_acc_3"] = round(float(top._MetricsTop__multiclass_acc(*clipped)), 4)
        case = {"name": name, "truth": shortest(truth), "prediction": shortest(prediction), **scores}
        lines.append(json.dumps(case, allow_nan=False))
    made_with = {package: version(package) for package in ("MMSA", "numpy", "scikit-learn", "torch")}
    text = f'{{"made_with": {json.dumps(made_with)},\n"cases": [\n' + ",\n".join(lines) + "\n]}\n"
    Path(__file__).with_name("mmsa_metrics.json").write_text(text, encoding="utf-8")


def readable(value):
    return "nan" if math.isnan(value) else float(value)


def shortest(values):
    return [float(str(value)) for value in values]


if __name__ == "__main__":
    main()

"""Show that MMSA's own loader reads what `affectus export-features` writes; its answer is mmsa_loader.txt.

Two environments, since MMSA is in none of ours (make_mmsa_metrics.py says how to make its own):

    python tests/golden/make_mmsa_loader.py write FOLDER
    mmsa-venv/bin/python tests/golden/make_mmsa_loader.py read FOLDER > tests/golden/mmsa_loader.txt

The first writes generated corpora as pickles, and beside each what MMSA should find; the second loads them with
MMSA.data_loader, all three splits, batch by batch, and compares every value.
"""

import json
import sys
from pathlib import Path

import numpy as np

# file, MMSA's name of the data set, aligned
FILES = {
    "aligned": ("mosi", True),
    "unaligned": ("mosei", False),
    "unaligned_sims": ("sims", False),
    "no_text": ("mosi", False),
}
LETTERS = {"T": "text", "A": "audio", "V": "vision"}


def write(folder):
    from affectus.corpus import Corpus, Ragged
    from affectus.corpus.embedded import make_embedded
    from affectus.corpus.writers import export_features

    folder.mkdir(parents=True, exist_ok=True)
    corpus = make_embedded(videos=30, steps=True)
    values = np.array(corpus.features["audio"].values)
    values[::7, 3] = -np.inf
    audio = Ragged(values, corpus.features["audio"].offsets)
    corpus = Corpus(corpus.table, {**corpus.features, "audio": audio}, corpus.card)
    for name, (_, aligned) in FILES.items():
        features = {k: v for k, v in corpus.features.items() if name != "no_text" or k != "text"}
        one = Corpus(corpus.table, features, corpus.card)
        view = "aligned" if aligned else "unaligned"
        found = export_features(one, "mmsa", folder / f"{name}.pkl", view=view, drop_unlabelled=True)
        expected = {}
        for split in ("train", "valid", "test"):
            rows = one.rows(split)
            rows = rows[~np.isnan(one.label("sentiment")[rows, 0])]
            expected[f"{split}.M"] = one.label("sentiment")[rows, 0]
            for letter, modality in LETTERS.items():
                expected[f"{split}.{letter}"] = one.label(f"sentiment_{modality}")[rows, 0]
                steps, width = found.shapes[modality]
                padded = np.zeros((len(rows), steps, width), np.float32)
                if modality in features:
                    for place, row in enumerate(rows):
                        padded[place, : features[modality].lengths[row]] = features[modality][row]
                    expected[f"{split}.{modality}_lengths"] = features[modality].lengths[rows]
                if modality == "audio":
                    padded[padded == -np.inf] = 0
                expected[f"{split}.{modality}"] = padded
            expected[f"{split}.id"] = one.table["id"].to_numpy()[rows].astype(str)
        np.savez(folder / f"{name}.npz", **expected)


def read(folder):
    from importlib.metadata import version

    from MMSA.data_loader import MMDataLoader

    print(f"MMSA {version('MMSA')}, numpy {np.__version__}, Python {sys.version.split()[0]}")
    for name, (data_set, aligned) in FILES.items():
        args = {
            "dataset_name": data_set, "custom_feature": str(folder / f"{name}.pkl"), "feature_dims": [0, 0, 0],
            "feature_T": "", "feature_A": "", "feature_V": "", "need_data_aligned": aligned, "seq_lens": [0, 0, 0],
            "batch_size": 16, "train_mode": "regression", "use_bert": False,
        }  # fmt: skip
        expected = np.load(folder / f"{name}.npz")
        batches = MMDataLoader(args, 0)
        counts = {}
        for split, loader in batches.items():
            counts[split] = 0
            place = {str(id): i for i, id in enumerate(expected[f"{split}.id"])}
            for batch in loader:
                at = [place[id] for id in batch["id"]]
                counts[split] += len(at)
                for modality in LETTERS.values():
                    np.testing.assert_array_equal(batch[modality].numpy(), expected[f"{split}.{modality}"][at])
                    key = f"{modality}_lengths"
                    if not aligned and modality != "text":
                        np.testing.assert_array_equal(np.asarray(batch[key]), expected[f"{split}.{key}"][at])
                for label, values in batch["labels"].items():
                    np.testing.assert_array_equal(values.numpy()[:, 0], expected[f"{split}.{label}"][at])
            assert counts[split] == len(place)
        print(f"{name}.pkl as {data_set}, {'aligned' if aligned else 'unaligned'}: equal in every value;", end=" ")
        print(json.dumps({"utterances": counts, "seq_lens": args["seq_lens"], "feature_dims": args["feature_dims"]}))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))

"""Modalities of different lengths brought into step."""

import math

import torch

from affectus.nn.stepping import StackedInputs, equal_parts, in_step
from affectus.testing import make_batch, repad
from affectus.vocabulary import View


def by_loops(batch):
    """The rule of ``in_step`` for one utterance after the other."""
    utterances = []
    for b in range(batch.size):
        own = {name: x[b][batch.masks[name][b]] for name, x in batch.features.items()}
        lengths = {name: len(x) for name, x in own.items() if len(x)}
        steps = lengths.get("text", min(lengths.values(), default=0))
        utterances.append(
            {
                name: [
                    x[math.floor(i * len(x) / steps) : math.ceil((i + 1) * len(x) / steps)].mean(dim=0)
                    for i in range(steps)
                ]
                for name, x in own.items()
                if len(x)
            }
        )
    return utterances


def test_unaligned_sequences_get_the_steps_of_the_text() -> None:
    batch = make_batch(View.UNALIGNED, lengths=(3, 7, 1, 12, 5, 4), missing=0.5, seed=1)
    batch.masks["audio"][1, 2] = False  # a hole
    for name in batch.features:  # an utterance of which nothing is there
        batch.masks[name][5] = False
    longer = repad(batch, 3, torch.nan)
    features, masks = in_step(longer.features, longer.masks, View.UNALIGNED)
    for b, expected in enumerate(by_loops(batch)):
        for name in batch.features:
            rows = expected.get(name, [])
            assert masks[name][b].tolist() == [True] * len(rows) + [False] * (masks[name].shape[1] - len(rows))
            assert (features[name][b, len(rows) :] == 0).all()
            for i, row in enumerate(rows):
                torch.testing.assert_close(features[name][b, i], row)


def test_without_text_the_shortest_decides() -> None:
    batch = make_batch(View.UNALIGNED, dims={"audio": 5, "vision": 4, "gaze": 3}, lengths=(3, 7))
    features, masks = in_step(batch.features, batch.masks, View.UNALIGNED)
    assert masks["vision"].sum(dim=1).tolist() == [3, 7]
    torch.testing.assert_close(features["audio"], batch.features["audio"])


def test_aligned_sequences_stay() -> None:
    batch = make_batch(View.ALIGNED, missing=0.3)
    features, masks = in_step(repad(batch, 0, torch.nan).features, batch.masks, View.ALIGNED)
    for name, x in batch.features.items():
        torch.testing.assert_close(features[name], x)
        assert torch.equal(masks[name], batch.masks[name])


def test_stacked_inputs() -> None:
    batch = make_batch(View.ALIGNED, missing=0.3)
    layer = StackedInputs({name: x.shape[-1] for name, x in batch.features.items()}, 7)
    x, real = layer(batch.features, batch.masks)
    assert x.shape == (5, 3, 4, 7)
    torch.testing.assert_close(x[2, 1, 3], layer.layers["audio"](batch.features["audio"][3, 2]))
    assert real[2, 1, 3, 0] == batch.masks["audio"][3, 2]
    assert [bias.shape for bias in layer.biases()] == [(7,)] * 3


def test_equal_parts() -> None:
    x = torch.arange(7.0).view(1, 7, 1).repeat(3, 1, 1)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 3] = mask[1, 5:] = False  # 0, 1, 2 and 4 are left
    mask[2] = False
    parts = equal_parts(x.masked_fill(~mask.unsqueeze(-1), math.nan), mask, 3)[..., 0]
    assert parts.tolist() == [[1.0, 3.0, 5.0], [0.5, 1.5, 3.0], [0.0, 0.0, 0.0]]
    assert equal_parts(x[:1, :2], mask[:1, :2], 4).flatten().tolist() == [0.0, 0.0, 1.0, 1.0]

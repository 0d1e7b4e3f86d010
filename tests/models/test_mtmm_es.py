"""MTMM-ES against Algorithm 1 of the paper and against what the released code does with padding."""

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.nn.attention import pairwise_attention
from affectus.testing import Case, make_batch, make_tasks, repad
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "emotions")
DIMS = {"text": 6, "audio": 5, "vision": 4, "gaze": 3}


def build(dims, **options):
    torch.manual_seed(0)
    return MODELS["mtmm_es"].create(dims, TASKS, {"hidden": 8, "dense": 10, **options}).eval()


def algorithm_1(X, Y):
    """Akhtar et al. 2019, Algorithm 1 for one pair, one video at a time, loops and all."""
    u = len(X)
    M1, M2 = X @ Y.T, Y @ X.T
    N1, N2 = np.zeros((u, u)), np.zeros((u, u))
    for i in range(u):
        for j in range(u):
            N1[i, j] = np.exp(M1[i, j]) / sum(np.exp(M1[i, k]) for k in range(u))
            N2[i, j] = np.exp(M2[i, j]) / sum(np.exp(M2[i, k]) for k in range(u))
    O1, O2 = N1 @ Y, N2 @ X
    A1, A2 = O1 * X, O2 * Y
    return A1, A2, N1, N2


def test_attention_equals_algorithm_1() -> None:
    """Padded to the longest video, masked: each video gives what the algorithm gives for it alone."""
    rng = np.random.default_rng(0)
    lengths, names = [5, 1, 3], ("text", "audio", "vision")
    videos = {name: [rng.normal(size=(u, 4)) for u in lengths] for name in names}
    padded = {name: torch.full((3, 5, 4), 7.0, dtype=torch.float64) for name in names}
    for name in names:
        for row, X in zip(padded[name], videos[name], strict=True):
            row[: len(X)] = torch.from_numpy(X)
    keys = dict.fromkeys(names, torch.arange(5) < torch.tensor(lengths).unsqueeze(1))
    attended, weights = pairwise_attention(padded, keys)
    found = dict(zip(weights, attended, strict=True))
    for x, y in (("text", "audio"), ("text", "vision"), ("audio", "vision")):
        for v, u in enumerate(lengths):
            A1, A2, N1, N2 = algorithm_1(videos[x][v], videos[y][v])
            np.testing.assert_allclose(found[f"attention.{x}.{y}"][v, :u].numpy(), A1, atol=1e-12)
            np.testing.assert_allclose(found[f"attention.{y}.{x}"][v, :u].numpy(), A2, atol=1e-12)
            np.testing.assert_allclose(weights[f"attention.{x}.{y}"][v, :u, :u].numpy(), N1, atol=1e-12)
            np.testing.assert_allclose(weights[f"attention.{y}.{x}"][v, :u, :u].numpy(), N2, atol=1e-12)


def test_attention_rows_sum_to_one_over_real_utterances() -> None:
    batch = make_batch(View.CONTEXTUAL, missing=0.3)
    output = build({"text": 6, "audio": 5, "vision": 4})(batch)
    pairs = [name for name in output.extras if name.startswith("attention.")]
    assert len(pairs) == 6
    for name in pairs:
        key = name.split(".")[2]
        has_key = (batch.masks[key] & batch.mask).any(dim=1, keepdim=True)
        weights = output.extras[name]
        torch.testing.assert_close(weights.sum(dim=-1), has_key.float().expand_as(batch.mask))
        assert (weights.masked_select(~batch.masks[key].unsqueeze(1).expand_as(weights)) == 0).all()


@pytest.mark.parametrize(("count", "blocks"), [(1, 2), (2, 4), (3, 9), (4, 16)])
def test_width_of_what_the_heads_see(count: int, blocks: int) -> None:
    """[A, X] alone, [A1, A2, X, Y] for two, six and three for three: 900 with the paper's 100."""
    dims = dict(list(DIMS.items())[:count])
    batch = make_batch(View.CONTEXTUAL, dims=dims)
    assert build(dims)(batch).extras["fused"].shape == (*batch.mask.shape, blocks * 10)
    assert build(dims, attention="none")(batch).extras["fused"].shape[-1] == count * 10


def test_published_sizes() -> None:
    model = MODELS["mtmm_es"].create({"text": 300, "audio": 74, "vision": 35}, TASKS)
    assert model.heads.layers["polarity"].in_features == 900
    assert model.heads.layers["polarity"].out_features == 2
    assert model.heads.layers["emotions"].out_features == 7
    assert model.encoder.recurrent.hidden == 200


def test_without_context_an_utterance_stands_alone() -> None:
    dims = {"text": 6}
    model = build(dims, context=False, attention="none")
    batch = make_batch(View.CONTEXTUAL, dims=dims, lengths=(4,))
    before = model(batch).predictions["polarity"]
    batch.features["text"][0, 3] += 1
    after = model(batch).predictions["polarity"]
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


class TestAsReleased:
    """What the released code does with padding: every padded row is one vector, and all of them are attended to."""

    case = Case("mtmm_es", View.CONTEXTUAL, "as_released")

    def test_padded_rows_are_identical(self) -> None:
        model, batch = self.case.build(), repad(self.case.batch(missing=0.0), 4, 0.0)
        masks = {name: batch.masks[name] & batch.mask for name in model.inputs}
        states = model.encoder.recurrent(batch.features, masks)
        dense = model.encoder(batch.features, masks)
        for name in model.inputs:
            for video, real in enumerate(batch.mask):
                pads = dense[name][video, ~real]
                last = states[name][video, real][-1]
                assert (pads == pads[0]).all()
                # forward: the last state repeated; backward: nothing seen yet
                torch.testing.assert_close(states[name][video, ~real][0, :8], last[:8])
                assert (states[name][video, ~real][0, 8:] == 0).all()

    def test_the_weight_of_padding_grows_with_its_length(self) -> None:
        model, batch = self.case.build(), self.case.batch(missing=0.0, lengths=(3,))
        for extra in (1, 5):
            longer = repad(batch, extra, 0.0)
            output = model(longer)
            weights = output.extras["attention.text.audio"][0, :3]  # (3, 3 + extra)
            pads = weights[:, 3:]
            torch.testing.assert_close(pads, pads[:, :1].expand_as(pads))
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3))
            # one vector as key, its softmax weight multiplied by the number of pads
            masks = {name: longer.masks[name] & longer.mask for name in model.inputs}
            x, y = (model.encoder(longer.features, masks)[name][0].detach() for name in ("text", "audio"))
            scores = torch.exp(x[:3] @ y[:4].T)  # three utterances, one pad
            expected = extra * scores[:, 3] / (scores[:, :3].sum(dim=-1) + extra * scores[:, 3])
            torch.testing.assert_close(pads.sum(dim=-1), expected)

    def test_settings(self) -> None:
        preset = MODELS["mtmm_es"].presets["as_released"]
        assert preset["training"]["pad_to"] == 98
        assert set(preset["breaks"]) == {"padding", "batch"}
        model = MODELS["mtmm_es"].create(DIMS, TASKS, preset["options"])
        assert model.encoder.recurrent.recurrent_bias is None


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match=r"Unknown value of the option 'attention'.*'mask'.*Did you mean 'masked'"):
        build(DIMS, attention="mask")
    for name in ("input_dropout", "recurrent_dropout", "dropout"):
        with pytest.raises(AffectusError, match=f"The option '{name}' is out of range"):
            build(DIMS, **{name: -0.1})

"""MMMU-BA: the three attentions against the paper's equations, and its sizes."""

import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.testing import DIMS, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity")


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    return MODELS["mmmu_ba"].create(dims, TASKS, {"hidden": 8, "dense": 10, **options}).eval()


def dense_of(model, batch):
    return model.encoder(batch.features, {name: batch.masks[name] & batch.mask for name in model.inputs})


def self_attention(x):
    """M = X X^T, N = softmax(M), O = N X, A = O (*) X of Ghosal et al. 2018, for one (rows, d) matrix."""
    weights = torch.exp(x @ x.T)
    return (weights / weights.sum(dim=1, keepdim=True)) @ x * x


@pytest.mark.parametrize(
    ("variant", "widths"),
    [
        ("mmmu_ba", (20, 40, 90, 160)),
        ("mmuu_sa", (20, 40, 60, 80)),
        ("mu_sa", (20, 40, 60, 80)),
        ("none", (10, 20, 30)),
    ],
)
def test_widths(variant: str, widths: tuple[int, ...]) -> None:
    dims = {**DIMS, "gaze": 3}
    for count, width in enumerate(widths, start=1):
        chosen = dict(list(dims.items())[:count])
        batch = make_batch(View.CONTEXTUAL, dims=chosen)
        assert build(chosen, variant=variant)(batch).extras["fused"].shape[-1] == width


def test_mu_sa_is_self_attention_over_utterances() -> None:
    model, batch = build(variant="mu_sa"), make_batch(View.CONTEXTUAL)
    dense, fused = dense_of(model, batch), model(batch).extras["fused"]
    for i, name in enumerate(DIMS):
        for video, real in enumerate(batch.mask):
            expected = self_attention(dense[name][video, real])
            torch.testing.assert_close(fused[video, real, 10 * i : 10 * i + 10], expected)


def test_mmuu_sa_is_self_attention_over_modalities() -> None:
    model, batch = build(variant="mmuu_sa"), make_batch(View.CONTEXTUAL)
    output = model(batch)
    stacked = torch.stack([x[batch.mask] for x in dense_of(model, batch).values()], dim=1)  # (n, 3, d)
    expected = torch.stack([self_attention(rows).flatten() for rows in stacked])
    torch.testing.assert_close(output.extras["fused"][batch.mask][:, :30], expected)
    assert output.extras["modality_attention"].shape == (*batch.mask.shape, 3, 3)


def test_mmuu_sa_does_not_attend_to_a_missing_modality() -> None:
    batch = make_batch(View.CONTEXTUAL).without("audio")
    weights = build(variant="mmuu_sa")(batch).extras["modality_attention"][batch.mask]
    assert (weights[..., 1] == 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))


def test_published_sizes() -> None:
    entry = MODELS["mmmu_ba"]
    model = entry.create({"text": 100, "audio": 73, "vision": 100}, TASKS)
    assert model.encoder.recurrent.hidden == 300
    assert (model.encoder.recurrent.dropout, model.encoder.recurrent.recurrent_dropout) == (0.5, 0.5)
    assert model.encoder.drop.p == 0.7
    assert model.heads.layers["polarity"].in_features == 900
    assert (entry.training["optimizer"], entry.training["batch_size"], entry.training["epochs"]) == ("adam", 32, 15)


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match=r"Unknown value of the option 'variant'.*Did you mean 'mmmu_ba'"):
        build(variant="mmmuba")
    with pytest.raises(AffectusError, match="Unknown value of the option 'attention'"):
        build(attention="none")
    for name in ("input_dropout", "recurrent_dropout", "dropout"):
        with pytest.raises(AffectusError, match=f"The option '{name}' is out of range"):
            build(**{name: 1.0})

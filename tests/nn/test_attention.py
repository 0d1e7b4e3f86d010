import torch

from affectus.nn.attention import attended_blocks, inter_modal_attention, masked_softmax, pairwise_attention
from affectus.nn.masking import masked_mean, zero_masked


def test_masked_softmax_without_a_key_is_zero() -> None:
    weights = masked_softmax(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[True, False], [False, False]]))
    assert weights.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_masked_softmax_without_a_mask() -> None:
    torch.testing.assert_close(masked_softmax(torch.zeros(2, 4), None), torch.full((2, 4), 0.25))


def test_excluded_keys_are_not_looked_at() -> None:
    torch.manual_seed(0)
    x, y, keys = torch.randn(2, 4, 3), torch.randn(2, 4, 3), torch.tensor([[True, True, False, True]]).expand(2, 4)
    other = y.clone()
    other[:, 2] = 50.0
    first, weights = inter_modal_attention(x, y, keys)
    second, _ = inter_modal_attention(x, other, keys)
    torch.testing.assert_close(first, second)
    assert (weights[..., 2] == 0).all()


def test_pairs() -> None:
    x = {name: torch.randn(1, 2, 3) for name in ("text", "audio", "vision", "gaze")}
    for count, pairs in ((1, 1), (2, 2), (3, 6), (4, 12)):
        chosen = dict(list(x.items())[:count])
        attended, weights = pairwise_attention(chosen, None)
        assert len(attended) == len(weights) == pairs == attended_blocks(count)
    assert list(pairwise_attention({"text": x["text"]}, None)[1]) == ["attention.text.text"]


def test_masked_mean_and_zero() -> None:
    x = torch.tensor([[[1.0], [5.0], [torch.nan]], [[torch.nan]] * 3])
    mask = torch.tensor([[True, True, False], [False] * 3])
    assert masked_mean(x, mask).tolist() == [[3.0], [0.0]]
    assert zero_masked(x, mask)[..., 0].tolist() == [[1.0, 5.0, 0.0], [0.0, 0.0, 0.0]]

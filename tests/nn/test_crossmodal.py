"""Ordered pairs of modalities: what each attends to, and what is left when one is missing."""

import torch

from affectus.nn.crossmodal import CrossModalAttention, ordered_pairs
from affectus.nn.masking import masked_mean

STEPS = {"text": 3, "audio": 5, "vision": 4}


def _case():
    torch.manual_seed(0)
    layer = CrossModalAttention(tuple(STEPS), 8, 2)
    x = {name: torch.randn(3, steps, 8) for name, steps in STEPS.items()}
    masks = {name: torch.ones(3, steps, dtype=torch.bool) for name, steps in STEPS.items()}
    masks["audio"][0, 3:] = False
    masks["audio"][1] = False
    masks["audio"][2] = masks["vision"][2] = False
    return layer, x, masks


def test_ordered_pairs() -> None:
    assert ordered_pairs(["a"]) == [("a", "a")]
    assert len(ordered_pairs(["a", "b"])) == 2
    assert len(set(ordered_pairs(["a", "b", "c"]))) == 6
    assert len(set(ordered_pairs(["a", "b", "c", "d"]))) == 12


def test_each_pair_is_its_own_attention_normalised_and_averaged() -> None:
    layer, x, masks = _case()
    tokens, present = layer(x, masks)
    assert tokens.shape == (3, 6, 8)
    for number, (query, key) in enumerate(layer.pairs):
        y = layer.attention[number](x[query][:1], x[key][:1], masks[key][:1])
        expected = masked_mean(layer.norms[number](y), masks[query][:1])
        torch.testing.assert_close(tokens[:1, number], expected)
    assert present[0].all()


def test_a_missing_query_gives_nothing_and_a_missing_key_the_query_itself() -> None:
    layer, x, masks = _case()
    tokens, present = layer(x, masks)
    for number, (query, key) in enumerate(layer.pairs):
        for sample in (1, 2):
            q, k = (masks[name][sample].any() for name in (query, key))
            assert present[sample, number] == q
            if not q:
                assert (tokens[sample, number] == 0).all()
            elif not k:
                own = x[query][sample : sample + 1]
                y = layer.attention[number](own, own, masks[query][sample : sample + 1])
                torch.testing.assert_close(tokens[sample, number], layer.norms[number](y)[0].mean(dim=0))
    assert present[2].tolist() == [query == "text" for query, _ in layer.pairs]


def test_weights_are_over_real_keys_for_real_queries() -> None:
    layer, x, masks = _case()
    weights = layer.weights(x, masks)
    assert set(weights) == {f"{query}.{key}" for query, key in layer.pairs}
    for name, matrix in weights.items():
        query, key = name.split(".")
        assert matrix.shape == (3, STEPS[query], STEPS[key])
        expected = (masks[query] & masks[key].any(dim=1, keepdim=True)).float()
        torch.testing.assert_close(matrix.sum(dim=-1), expected)

"""Plain feed-forward networks."""

import torch

from affectus.nn.dense import FeedForward


def test_layers_by_hand() -> None:
    torch.manual_seed(0)
    network = FeedForward(3, (4, 2), dropout=0.5).eval()
    x = torch.randn(2, 5, 3)
    first, second = network.layers[0], network.layers[3]
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(network(x), (hidden @ second.weight.T + second.bias).clamp(min=0))
    assert network.width == 2


def test_dropout_after_each_layer() -> None:
    torch.manual_seed(0)
    network = FeedForward(3, (400,), dropout=0.25).train()
    network.layers[0].bias.data.fill_(10.0)
    share = (network(torch.randn(20, 3)) == 0).double().mean().item()
    assert abs(share - 0.25) < 0.02

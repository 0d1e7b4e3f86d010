"""Products by the kernels are those of PyTorch, and are the kernels' only where these are the faster ones."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from affectus.nn import kernels, matmul
from affectus.nn.matmul import Linear, adopt, linear
from affectus.nn.tracing import plain

compiled = pytest.mark.skipif(kernels.level() == kernels.NONE, reason="no kernels: no C compiler at installation")
SIZES = [(1, 1, 1), (8, 256, 32), (7, 300, 33), (131, 17, 50), (40, 513, 16), (9, 3, 100), (260, 600, 96)]
SIZES += [(20, 30, 1100)]  # more columns than go through together


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes (m, n, k) of the products that the kernels make."""
    found: list[tuple[int, ...]] = []
    library = kernels._load()[1]
    if library is not None:
        make = library.matmul

        def watched(*given: int) -> None:
            found.append(tuple(given[5:8]))
            make(*given)

        monkeypatch.setattr(library, "matmul", watched)
    return found


def exactly(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() @ b.double()).float()


@compiled
@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(("m", "k", "n"), SIZES)
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_products_of_any_size_and_strides(m: int, k: int, n: int, turned: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(m, k), torch.randn(k, n))
    a, b = (x.T.contiguous().T if turn else x for x, turn in zip((a, b), turned, strict=True))
    expected = exactly(a, b)
    near = {"rtol": 1e-5, "atol": 2e-6 * k**0.5}
    torch.testing.assert_close(matmul.matmul(a, b), expected, **near)
    row, all_rows = torch.randn(n), torch.randn(m, n)
    kept = all_rows.clone()
    torch.testing.assert_close(matmul.matmul(a, b, row), expected + row, **near)
    torch.testing.assert_close(matmul.matmul(a, b, all_rows), expected + all_rows, **near)
    assert torch.equal(all_rows, kept)


@compiled
@pytest.mark.usefixtures("everywhere")
def test_parts_of_larger_arrays() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(50, 90)[3:43, 10:60], torch.randn(70, 80)[5:55, ::2]
    torch.testing.assert_close(matmul.matmul(a, b), exactly(a, b), rtol=1e-5, atol=2e-5)
    wide = torch.randn(40, 60)[:, :40]
    torch.testing.assert_close(matmul.matmul(a, b, wide), wide + exactly(a, b), rtol=1e-5, atol=2e-5)
    row = torch.randn(80)[::2]
    torch.testing.assert_close(matmul.matmul(a, b, row), row + exactly(a, b), rtol=1e-5, atol=2e-5)


@compiled
@pytest.mark.usefixtures("everywhere")
def test_what_is_not_a_number_stays_in_its_row_and_column() -> None:
    a, b = torch.randn(20, 30), torch.randn(30, 40)
    a[3, 4], b[7, 8] = torch.nan, torch.inf
    found, expected = matmul.matmul(a, b), a @ b
    assert torch.equal(found.isfinite(), expected.isfinite())
    assert not found[3].isfinite().any()
    assert not found[:, 8].isfinite().any()


@compiled
@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("size", [(700, 300, 100), (90, 400, 500)])
def test_a_product_does_not_depend_on_how_many_threads_there_are(size: tuple[int, int, int]) -> None:
    m, k, n = size
    a, b, before = torch.randn(m, k), torch.randn(k, n), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            found.append(matmul.matmul(a, b))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)


def by_pytorch(x: Tensor, weight: Tensor, start: Tensor | None) -> Tensor:
    return F.linear(x, weight) + (0.0 if start is None else start)


@compiled
@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("shape", [(20, 12), (4, 5, 12)])
@pytest.mark.parametrize("start", ["none", "bias", "rows"])
def test_a_layer_and_its_gradient(calls: list[tuple[int, ...]], shape: tuple[int, ...], start: str) -> None:
    if start == "rows" and len(shape) > 2:
        pytest.skip("of rows alone")
    torch.manual_seed(0)
    width = 9
    made = {"none": None, "bias": torch.randn(width), "rows": torch.randn(shape[0], width)}[start]
    given = [torch.randn(*shape), torch.randn(width, 12), *([] if made is None else [made])]

    def run(layer: Callable[..., Tensor]) -> list[Tensor]:
        arguments = [x.clone().requires_grad_() for x in given]
        y = layer(*arguments, *([None] if made is None else []))
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        return [y, *(x.grad for x in arguments if x.grad is not None)]

    for found, expected in zip(run(linear), run(by_pytorch), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == 3


@compiled
@pytest.mark.usefixtures("everywhere")
def test_what_is_not_trained_costs_no_product(calls: list[tuple[int, ...]]) -> None:
    layer = Linear(12, 9)
    layer(torch.randn(20, 12)).sum().backward()  # features have no gradient
    assert len(calls) == 2
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    calls.clear()
    layer.requires_grad_(False)
    layer(torch.randn(20, 12))
    assert len(calls) == 1


@compiled
@pytest.mark.usefixtures("everywhere")
def test_other_products_are_pytorchs(calls: list[tuple[int, ...]]) -> None:
    layer, x = Linear(12, 9), torch.randn(20, 12)
    assert torch.equal(layer(x[0]), F.linear(x[0], layer.weight, layer.bias))  # a single row
    with plain():
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    assert not calls


@compiled
@pytest.mark.usefixtures("everywhere")
def test_what_does_not_fit_is_refused_by_pytorch(calls: list[tuple[int, ...]]) -> None:
    layer = Linear(12, 9)
    with pytest.raises(RuntimeError, match="shapes"):
        layer(torch.randn(20, 11))
    for start in (torch.randn(8), torch.randn(19, 9)):
        with pytest.raises(RuntimeError):
            matmul.matmul(torch.randn(20, 12), torch.randn(12, 9), start)
    with pytest.raises(RuntimeError, match="dtype"):
        matmul.matmul(torch.randn(20, 12), torch.randn(12, 9).double())
    assert not calls


@compiled
@pytest.mark.usefixtures("everywhere")
def test_what_lies_otherwise_in_memory_is_pytorchs(calls: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(20, 12), torch.randn(9, 12)
    torch.testing.assert_close(linear(x, weight, torch.ones(1)), F.linear(x, weight) + 1)
    torch.testing.assert_close(linear(x, weight, torch.ones(1, 9)), F.linear(x, weight) + 1)
    negative = torch.complex(x, x).conj().imag
    assert negative.is_neg()
    torch.testing.assert_close(linear(negative, weight), F.linear(-x, weight))
    torch.testing.assert_close(linear(x, weight.to_sparse()), F.linear(x, weight))
    with pytest.raises(RuntimeError):
        linear(x, weight, torch.zeros(9, dtype=torch.float64))
    with FakeTensorMode():
        assert Linear(12, 9)(torch.empty(20, 12)).shape == (20, 9)
    assert not calls


@compiled
@pytest.mark.usefixtures("everywhere")
def test_transforms_of_functions_see_through_a_layer() -> None:
    layer, x = Linear(12, 9), torch.randn(5, 20, 12)
    torch.testing.assert_close(torch.func.vmap(layer)(x), F.linear(x, layer.weight, layer.bias))
    found = torch.func.grad(lambda weight: linear(x[0], weight).sum())(layer.weight.detach())
    torch.testing.assert_close(found, x[0].sum(dim=0).expand(9, -1))


@compiled
@pytest.mark.usefixtures("everywhere")
def test_the_gradient_of_a_gradient() -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(20, 12, requires_grad=True), Linear(12, 9)

    def penalty(weight: Tensor, apply: Callable[..., Tensor]) -> Tensor:
        y = torch.tanh(apply(x, weight, layer.bias)).sum()
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), weight)[0]

    torch.testing.assert_close(penalty(layer.weight, linear), penalty(layer.weight, F.linear), rtol=1e-4, atol=1e-5)


@compiled
@pytest.mark.usefixtures("everywhere")
def test_what_is_exported_is_free_in_its_length() -> None:
    program = torch.export.export(
        Linear(12, 9), (torch.randn(20, 12),), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    for rows in (2, 400_000):
        assert program.module()(torch.randn(rows, 12)).shape == (rows, 9)


@compiled
def test_small_ones_are_pytorchs(calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "multiplies", lambda: True)
    matmul.matmul(torch.zeros(16, 16), torch.zeros(16, 16))
    matmul.matmul(torch.zeros(100_000, 100), torch.zeros(100, 1))  # narrow
    assert not calls
    matmul.matmul(torch.zeros(128, 128), torch.zeros(128, 128))
    assert len(calls) == 1
    monkeypatch.setattr(matmul, "multiplies", lambda: False)
    matmul.matmul(torch.zeros(128, 128), torch.zeros(128, 128))
    assert len(calls) == 1


@compiled
def test_they_are_for_other_makers_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    library = kernels._load()[1]
    assert library is not None

    decide = kernels.multiplies.__wrapped__
    for level, foreign, expected in (("avx512", 1, True), ("avx512", 0, False), ("avx2", 1, False)):
        loaded = level, SimpleNamespace(is_foreign=lambda foreign=foreign: foreign)
        monkeypatch.setattr(kernels, "_load", lambda loaded=loaded: loaded)
        assert decide() is (expected and torch.backends.mkl.is_available())
    monkeypatch.setattr(kernels, "_load", lambda: (kernels.NONE, None))
    assert decide() is False
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return
    maker = next(line.split(":")[1].strip() for line in lines if line.startswith("vendor_id"))
    assert bool(library.is_foreign()) == (maker != "GenuineIntel")


def test_a_layer_is_pytorchs_in_every_other_respect() -> None:
    ours, theirs = Linear(3, 2), nn.Linear(3, 2)
    assert isinstance(ours, nn.Linear)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 3)
    assert torch.equal(ours(x), theirs(x))


def test_the_layers_of_another_network_are_adopted() -> None:
    class Other(nn.Linear):
        """A layer that does something else."""

    network = nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 2), Other(2, 2)))
    x = torch.randn(4, 3)
    expected = network(x)
    assert adopt(network) is network
    assert [type(layer) for layer in network.modules() if isinstance(layer, nn.Linear)] == [Linear, Linear, Other]
    assert torch.equal(network(x), expected)

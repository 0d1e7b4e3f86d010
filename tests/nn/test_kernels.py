"""The compiled kernels do what PyTorch's operators do, and are left out where they cannot be used."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from affectus.cli.doctor import _kernels
from affectus.nn import kernels
from affectus.nn.choosing import choose
from affectus.nn.dropping import LargeDropout
from affectus.nn.gru import BiGRU, LastGRU
from affectus.nn.kernels import build
from affectus.nn.kernels.build import find_compiler
from affectus.nn.lstm import LSTM
from affectus.nn.memory import GatedMemory
from affectus.nn.normalization import StepBatchNorm
from affectus.nn.packing import Packing
from affectus.nn.product import product_layer
from affectus.nn.recurrent import BiGRUs, BiLSTMs
from affectus.nn.stepping import equal_parts, in_step
from affectus.nn.weighing import attend, weigh
from affectus.vocabulary import View

compiled = pytest.mark.skipif(kernels.level() == kernels.NONE, reason="no kernels: no C compiler at installation")
Results = list[Tensor]


@pytest.fixture
def both(everywhere: None) -> Callable[[Callable[[], Results]], None]:
    """Compare what something gives with kernels and without."""

    def compare(run: Callable[[], Results]) -> None:
        torch.manual_seed(0)
        found = run()
        with kernels.no_kernels():
            assert kernels.kernels_for(torch.zeros(1)) is None
            torch.manual_seed(0)
            expected = run()
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6 * max(1.0, float(b.detach().abs().max())))

    return compare


def gradients(module: torch.nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> Results:
    module.zero_grad()
    x = x.clone().requires_grad_()
    y = run(x)
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad.clone() for p in module.parameters() if p.grad is not None)]


@compiled
@pytest.mark.parametrize(("samples", "dim", "hidden"), [(1, 3, 200), (5, 200, 33), (16, 160, 64), (40, 130, 1)])
def test_an_lstm(both: Callable[..., None], samples: int, dim: int, hidden: int) -> None:
    torch.manual_seed(1)
    layer = LSTM(dim, hidden, layers=2, bidirectional=True)
    packing = Packing(torch.rand(samples, 9) < 0.7)
    x = torch.randn(len(packing.index), dim)
    both(lambda: gradients(layer, x, lambda x: layer.rows(x, packing)))
    # of the states, of the cells, and of both
    both(lambda: gradients(layer, x, lambda x: layer.cells(x, packing)[0]))
    both(lambda: gradients(layer, x, lambda x: layer.cells(x, packing)[1]))
    both(lambda: gradients(layer, x, lambda x: torch.cat(layer.cells(x, packing))))


@compiled
@pytest.mark.parametrize(("samples", "dim", "hidden"), [(1, 3, 70), (5, 20, 33), (16, 16, 64), (40, 13, 1)])
def test_a_gru(both: Callable[..., None], samples: int, dim: int, hidden: int) -> None:
    torch.manual_seed(1)
    mask = torch.rand(samples, 9) < 0.7
    mask[0] = False  # a sample without a step
    x = torch.randn(samples, 9, dim)
    for layer in (BiGRU(dim, hidden), LastGRU(dim, hidden)):
        both(lambda layer=layer: gradients(layer, x, lambda x: layer(x, mask)))


@compiled
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("kind", [BiGRUs, BiLSTMs])
def test_recurrences_with_the_dropouts_of_keras(both: Callable[..., None], kind: type, dropout: float) -> None:
    torch.manual_seed(1)
    layer = kind({"a": 6, "b": 4}, 35, dropout=dropout, recurrent_dropout=dropout)
    for p in layer.parameters():  # biases too
        torch.nn.init.normal_(p, std=0.3)
    masks = {name: torch.rand(7, 10) < 0.7 for name in "ab"}
    masks["b"][2] = False
    x = torch.randn(7, 10, 10)

    def run(x: Tensor) -> Tensor:
        given = {"a": x[..., :6], "b": x[..., 6:]}
        return torch.cat([*layer(given, masks).values()])

    both(lambda: gradients(layer, x, run))
    x[~masks["a"]] = torch.nan  # what is masked may be anything
    assert not layer({"a": x[..., :6], "b": torch.zeros(7, 10, 4)}, masks)["a"].isnan().any()


@compiled
@pytest.mark.parametrize("dim", [1, 16, 37])
def test_parts_of_sequences(both: Callable[..., None], dim: int) -> None:
    torch.manual_seed(1)
    lengths = {"text": torch.tensor([4, 1, 0, 7, 3]), "audio": torch.tensor([30, 1, 9, 4, 0])}
    masks = {name: torch.arange(32) < n.unsqueeze(1) for name, n in lengths.items()}
    features = {name: torch.randn(5, 32, dim) for name in masks}
    for name, x in features.items():
        x[~masks[name]] = torch.nan

    def run() -> Results:
        found, real = in_step(features, masks, View.UNALIGNED)
        assert all(torch.equal(x, x * real[name].unsqueeze(-1)) for name, x in found.items())
        return [*found.values(), equal_parts(features["audio"], masks["audio"], 6)]

    both(run)
    x = torch.randn(5, 32, dim, requires_grad=True)
    equal_parts(x, masks["audio"], 6).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.any(dim=-1), masks["audio"])


@compiled
def test_rows_side_by_side(both: Callable[..., None]) -> None:
    torch.manual_seed(1)
    packing = Packing(torch.rand(6, 9) < 0.5)
    parts = [torch.randn(6, 9, dim) for dim in (3, 1, 40)]
    both(lambda: [packing.pack_together(parts)])
    assert torch.equal(packing.pack_together(parts), torch.cat([packing.pack(x) for x in parts], dim=1))
    parts[1].requires_grad_()
    packing.pack_together(parts).sum().backward()
    assert parts[1].grad is not None


@compiled
def test_rows_that_are_chosen(both: Callable[..., None]) -> None:
    torch.manual_seed(1)
    indexes = [None, torch.randint(0, 31, (30,)), torch.randint(0, 31, (30,)), None, torch.full((30,), 30)]
    x = torch.randn(30, 40)

    def run(x: Tensor) -> Tensor:
        first, second, third = x.split([7, 16, 17], dim=1)
        sources = [second, second, third, third, first]  # one whose rows all come first, one where they come last
        return choose(list(zip(sources, indexes, strict=True)))

    both(lambda: gradients(torch.nn.Identity(), x, run))
    both(lambda: gradients(torch.nn.Identity(), x, lambda x: choose([(x, torch.tensor([3, 30, 3]))])))
    both(
        lambda: gradients(torch.nn.Identity(), x, lambda x: choose([(x, torch.zeros(0, dtype=torch.int64))]).sum() + x)
    )


@compiled
@pytest.mark.parametrize("width", [1, 15, 40])
def test_attention_over_a_row(both: Callable[..., None], width: int) -> None:
    torch.manual_seed(1)
    x = torch.randn(9, 2 * width) * 5
    both(lambda: gradients(torch.nn.Identity(), x, lambda x: attend(*x.chunk(2, dim=1))))
    assert attend(torch.full((1, width), torch.nan), torch.ones(1, width)).isnan().all()


@compiled
@pytest.mark.parametrize("dim", [1, 16, 37])
def test_moments_of_a_step(both: Callable[..., None], dim: int) -> None:
    rows, step = torch.randn(23, dim) + 5.0, torch.arange(23) // 4

    def run() -> Results:
        norm = StepBatchNorm(5)
        return [*norm.affine(rows, step, None), *norm.norm.buffers()]

    both(run)


@compiled
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(("samples", "size"), [(1, 40), (7, 33), (20, 1)])
def test_a_gated_memory(both: Callable[..., None], samples: int, size: int, dropout: float) -> None:
    torch.manual_seed(1)
    shares = {"candidate_dropout": dropout, "retain_dropout": dropout, "update_dropout": 0.0}
    memory = GatedMemory(12, size, candidate=5, retain=18, update=33, **shares)
    packing = Packing(torch.rand(samples, 11) < 0.7)
    x = torch.randn(len(packing.index), 12)
    both(lambda: gradients(memory, x, lambda x: memory(x, packing)))


@compiled
@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("widths", [(6, 3, 40), (50, 40, 15), (9, 16)])
def test_a_product_with_a_layer(both: Callable[..., None], widths: tuple[int, ...], share: float) -> None:
    torch.manual_seed(1)
    columns = 1
    for width in widths:
        columns *= width + 1
    layer, drop = torch.nn.Linear(columns, 20), LargeDropout(share)
    x = torch.randn(70, sum(widths))
    both(lambda: gradients(layer, x, lambda x: product_layer(x.split(widths, dim=1), drop, layer)))


@compiled
def test_a_product_with_a_layer_on_few_samples(both: Callable[..., None]) -> None:
    torch.manual_seed(1)
    x = torch.randn(3, 9)
    for out in (1, 2, 7):  # fewer than a block has, and more
        layer = torch.nn.Linear(5 * 6, out)
        both(
            lambda layer=layer: gradients(
                layer, x, lambda x: product_layer(x.split([4, 5], 1), LargeDropout(0.5), layer)
            )
        )


@compiled
def test_a_product_with_a_layer_that_is_not_trained(both: Callable[..., None]) -> None:
    torch.manual_seed(1)
    layer, drop, x = torch.nn.Linear(11 * 21, 9).eval(), LargeDropout(0.5).eval(), torch.randn(5, 30)
    with torch.inference_mode():
        both(lambda: [product_layer(x.split([10, 20], dim=1), drop, layer)])


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set how many threads there are, within a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _recurrence(module: torch.nn.Module, x: Tensor, packing: Packing) -> Results:
    return gradients(module, packing.unpack(x), lambda x: module(x, packing.mask))


def _dropping(x: Tensor, packing: Packing) -> Results:
    module = BiLSTMs({"a": 160}, 70, recurrent_dropout=0.3)
    mask = packing.mask
    return gradients(module, packing.unpack(x), lambda x: module({"a": x}, {"a": mask})["a"])


def _memory(x: Tensor, packing: Packing) -> Results:
    shares = {"candidate_dropout": 0.1, "retain_dropout": 0.2, "update_dropout": 0.0}
    memory = GatedMemory(160, 70, candidate=40, retain=40, update=50, **shares)
    return gradients(memory, x, lambda x: memory(x, packing))


def _product(x: Tensor, packing: Packing) -> Results:
    layer = torch.nn.Linear(51 * 61, 20)
    return gradients(layer, x, lambda x: product_layer(x[:, :110].split([50, 60], 1), LargeDropout(0.3), layer))


WORK: dict[str, Callable[[Tensor, Packing], Results]] = {
    "lstm": lambda x, packing: _recurrence(LSTM(160, 70), x, packing),
    "gru": lambda x, packing: _recurrence(BiGRU(160, 70), x, packing),
    "lstm with dropout": _dropping,
    "memory": _memory,
    "product": _product,
}


@compiled
@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("samples", [3, 40])
def test_results_do_not_depend_on_how_many_threads_there_are(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, name: str, samples: int
) -> None:
    torch.manual_seed(2)
    packing = Packing(torch.rand(samples, 30) < torch.rand(samples, 1))
    x = torch.randn(len(packing.index), 160)
    found, given = {}, []
    for count in (1, 2, 3, 8):
        threads(1)
        # PyTorch's own products depend on their threads: only the kernels have them here
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: given.append(count) or count)
        torch.manual_seed(0)
        found[count] = WORK[name](x, packing)
        monkeypatch.undo()
    assert set(given) == {1, 2, 3, 8}
    for count in (2, 3, 8):
        for a, b in zip(found[1], found[count], strict=True):
            assert torch.equal(a, b), count


@compiled
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch starts its threads in another way")
def test_threads_are_those_of_pytorch() -> None:
    assert kernels._starter() is not None


@compiled
@pytest.mark.parametrize("widths", [(5,), (16, 33, 1), (40, 7, 20, 64)])
def test_vectors_that_are_weighed(both: Callable[..., None], widths: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    x = torch.randn(9, len(widths) + 2 + sum(widths))

    def run(x: Tensor) -> Tensor:
        numbers, *parts = x.split([len(widths) + 2, *widths], dim=1)
        return weigh(numbers[:, 1:-1], parts)

    both(lambda: gradients(torch.nn.Identity(), x, run))


@compiled
def test_gates_of_numbers_without_bounds() -> None:
    extreme = [0.0, -0.0, 1e-30, -1e-6, 0.624, 0.626, -20.0, 50.0, 88.1, -88.1, 1e4, -1e4, torch.inf, -torch.inf]
    values = torch.tensor(extreme * 3)
    n = len(values)
    gates = values.repeat(4).view(1, -1).clone()
    cells, squashed, states = (torch.zeros(1, n) for _ in range(3))
    arrays = kernels.Arrays("lstm", n, gates=gates, cells=cells, squashed=squashed, states=states)
    sizes, weights = kernels.count([1]), kernels.pack(kernels.kernels_for(gates), torch.zeros(n, 4 * n))
    kernels.kernels_for(gates).lstm(arrays, 1, sizes.data_ptr(), 1, weights.data_ptr())  # type: ignore[union-attr]
    i, _, g, o = gates.view(4, n)
    exact = values.double()
    for found, expected in ((i, exact.sigmoid()), (g, exact.tanh()), (o, exact.sigmoid())):
        # relatively too, where single precision can say it
        torch.testing.assert_close(found.double(), expected, rtol=4e-7, atol=1e-37)
    torch.testing.assert_close(cells[0], i * g, rtol=0, atol=1e-7)
    gates.fill_(torch.nan)
    kernels.kernels_for(gates).lstm(arrays, 1, sizes.data_ptr(), 1, weights.data_ptr())  # type: ignore[union-attr]
    assert states.isnan().all()


def test_they_are_for_single_precision_on_a_processor() -> None:
    assert kernels.kernels_for(torch.zeros(1, dtype=torch.float64)) is None
    assert kernels.kernels_for(torch.zeros(1, device="meta")) is None


def test_a_variable_switches_them_off() -> None:
    command = [sys.executable, "-c", "from affectus.nn import kernels; print(kernels.level())"]
    done = subprocess.run(command, env=os.environ | {kernels.SWITCH: "0"}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kernels.NONE


@compiled
def test_a_library_of_another_source_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "stamp", lambda: "0" * 16)
    assert kernels._load.__wrapped__() == (kernels.NONE, None)


def test_without_a_compiler_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    assert build.build() == []


def test_a_compiler_that_cannot_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert build._compile([sys.executable, "-c", "raise SystemExit('no such option')"], "avx2", ()) is None
    assert list(tmp_path.iterdir()) == []  # type: ignore[attr-defined]
    assert "no such option" in capsys.readouterr().err


@compiled
@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@pytest.mark.slow
def test_the_command_builds_what_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path)
    made = build.build()
    assert [path.parent for path in made] == [tmp_path] * len(build.LEVELS)
    monkeypatch.setattr(kernels, "library", build.library)
    assert kernels._load.__wrapped__()[0] == kernels.level()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: [], "a C compiler that can. Install one"),
        (lambda: (_ for _ in ()).throw(PermissionError(13, "Permission denied")), "Permission denied"),
    ],
)
def test_the_command_says_what_is_missing(
    made: Callable[[], list[object]],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from affectus.nn.kernels import __main__ as command

    monkeypatch.setattr(command, "build", made)
    assert command.main() == 2
    assert says in capsys.readouterr().err


def test_doctor_tells_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    part = _kernels()
    assert part.optional
    assert part.ready is (kernels.level() != kernels.NONE)
    monkeypatch.setattr(kernels, "level", lambda: "avx512")
    for products, said in ((True, "for avx512, large products too"), (False, "for avx512")):
        monkeypatch.setattr(kernels, "multiplies", lambda products=products: products)
        assert _kernels().found == said
    monkeypatch.setattr(kernels, "level", lambda: kernels.NONE)
    assert "python -m affectus.nn.kernels" in str(_kernels().remedy)

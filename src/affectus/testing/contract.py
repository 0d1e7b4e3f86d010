"""The contract suite: what the rest of affectus relies on in every model, as functions that raise when it fails.

For a model of your own, in your own test suite::

    import pytest
    from affectus.testing import cases, checks_of, run_check

    import my_package  # registers "my_model"


    @pytest.mark.parametrize(
        ("case", "check"), [(case, check) for case in cases("my_model") for check in checks_of(case)], ids=str
    )
    def test_contract(case, check):
        run_check(case, check)

or, in one call, ``check_model("my_model")``. A model whose method cannot keep one of the contracts says so where it is
registered (``breaks``, for the model or for a preset), and the suite then asks that the check fails.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.errors import AffectusError, unknown_name
from affectus.models.base import MODELS, AnyModel, Estimator, Model, ModelEntry, ModelOutput, Stage
from affectus.objectives import Task, TaskKind
from affectus.objectives.weighing import loss_weights
from affectus.testing.batches import DIMS, join, make_batch, make_tasks, repad, take, with_garbage
from affectus.vocabulary import View

TOLERANCE = 1e-5
SMALL: Mapping[str, Any] = {
    **{"hidden": 8, "dense": 8, "fusion_dense": 8, "dim": 16, "filters": (8,), "ffn": 16},
    **{"text_out": 8, "memory": 8, "layers": 2, "heads": 2, "kernel": 2, "trees": 5},
}
"""Options that keep the suite fast, set where a model has them."""
REMEMBERED_EPOCHS = 4
"""After so many epochs every part of a model learns."""
STARTS = 6
"""From one of so many starts a model learns eight utterances by heart."""
FOUR_MODALITIES: Mapping[str, int] = {**DIMS, "gaze": 3}


class ContractError(AssertionError):
    """A model does not keep the contract."""


@dataclass(frozen=True)
class Case:
    """A model in one view, with one preset, to be checked.

    Attributes:
        model: name in the registry.
        view: one that the model accepts.
        preset: of the model, or None.
        options: over the preset's.
        dims: width of each modality.
        tasks: names among those of :data:`affectus.testing.SCHEMES`; empty for one of each kind that the model learns.
    """

    model: str
    view: View
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=lambda: dict(DIMS))
    tasks: tuple[str, ...] = ()

    def __str__(self) -> str:
        options = [f"{name}={value}" for name, value in self.options.items()]
        return "-".join([self.model, str(self.view), *([self.preset] if self.preset else []), *options])

    @property
    def entry(self) -> ModelEntry:
        """The model's registration."""
        return MODELS[self.model]

    @property
    def chosen_tasks(self) -> tuple[Task, ...]:
        """The tasks."""
        if self.tasks:
            return make_tasks(*self.tasks)
        return tuple(task for task in make_tasks() if task.kind in self.entry.kinds)

    def build(self, *, seed: int = 0, dropout: bool = True) -> AnyModel:
        """Build the model, small, in evaluation mode; an estimator is fitted.

        Args:
            seed: of its random numbers.
            dropout: False sets to 0 every option whose name ends in ``dropout``, and to nothing in ``dropouts``.
        """
        entry = self.entry
        options = dict(entry.presets[self.preset].get("options", {})) if self.preset else {}
        options |= {name: value for name, value in SMALL.items() if name in entry.options}
        options |= self.options
        if not dropout:
            options |= {name: 0.0 for name in entry.options if name.endswith("dropout")}
            options |= {name: None for name in entry.options if name.endswith("dropouts")}
        with seeded(seed):
            model = entry.create(self.dims, self.chosen_tasks, options)
        if isinstance(model, Model):
            model.eval()
        else:
            model.fit([self.batch(seed=100), self.batch(seed=101)])
        return model

    def batch(self, *, seed: int = 0, missing: float = 0.2, **settings: Any) -> Batch:
        """Make a random batch for the model; see :func:`affectus.testing.make_batch`."""
        return make_batch(self.view, dims=self.dims, seed=seed, missing=missing, **settings)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch within the block and leave its random numbers outside as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def cases(*models: str) -> list[Case]:
    """Return a case for each view and preset of the named models, or of every registered one.

    A preset that changes the training or numbers alone (sizes, rates, weights) makes none: the model is the same. Nor
    does one that changes what another one changes.
    """
    return [
        Case(name, view, preset)
        for name in models or MODELS.names()
        for view in View
        if view in MODELS[name].views
        for preset in (None, *_different(MODELS[name]))
    ]


def _different(entry: ModelEntry) -> list[str]:
    """Return the presets that make a model of their own."""
    found: list[str] = []
    seen: list[tuple[dict[str, Any], Sequence[str]]] = [({}, ())]
    for preset, what in entry.presets.items():
        chosen = what.get("options", {})
        named = {k: v for k, v in chosen.items() if isinstance(v, str | bool) and v != entry.options[k].default}
        mine = named, tuple(what.get("breaks", ()))
        if mine not in seen:
            seen.append(mine)
            found.append(preset)
    return found


def checks_of(case: Case) -> list[str]:
    """Return the names of the checks that apply: those about gradients do not to an estimator."""
    estimator = issubclass(case.entry.build, Estimator)
    return [name for name in CHECKS if not (estimator and name in GRADIENT_CHECKS)]


def run_check(case: Case, check: str) -> None:
    """Run one check; one that the model declares to break must fail.

    Raises:
        ContractError: the contract is not kept, or is kept although the model declares the opposite.
    """
    if check not in CHECKS:
        raise unknown_name("check", check, CHECKS)
    if check not in case.entry.broken_contracts(case.preset):
        CHECKS[check](case)
        return
    try:
        CHECKS[check](case)
    except ContractError:
        return
    raise ContractError(f"{case} declares that it breaks the contract {check!r}, but keeps it")


def check_model(
    name: str,
    *,
    view: View | None = None,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    tasks: Sequence[str] = (),
    dims: Mapping[str, int] = DIMS,
    checks: Sequence[str] | None = None,
) -> None:
    """Run the contract over a registered model.

    Args:
        name: of the model.
        view: one view; None for all that the model accepts.
        preset: of the model.
        options: of the model; small sizes make it quick.
        tasks: names, see :class:`Case`.
        dims: width of each modality.
        checks: names among :data:`CHECKS`; None for all that apply.

    Raises:
        ContractError: the contract is not kept.
    """
    for each in View if view is None else (view,):
        if view is not None or each in MODELS[name].views:
            case = Case(name, each, preset, options or {}, dict(dims), tuple(tasks))
            for check in checks_of(case) if checks is None else checks:
                run_check(case, check)


def _require(holds: bool | Tensor, case: Case, what: str) -> None:
    if not bool(holds):
        raise ContractError(f"{case}: {what}")


def _predict(model: AnyModel, batch: Batch) -> ModelOutput:
    with torch.no_grad():
        output: ModelOutput = model(batch)
    return output


def _real(output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
    """Predictions of the real utterances (n, outputs) by task."""
    return {name: y[batch.mask] for name, y in output.predictions.items()}


def _require_equal(
    case: Case, a: Mapping[str, Tensor], b: Mapping[str, Tensor], what: str, tolerance: float = TOLERANCE
) -> None:
    for name, expected in a.items():
        same = torch.allclose(expected, b[name], rtol=tolerance, atol=tolerance)
        _require(same, case, f"{what}: {name!r} changes by {(expected - b[name]).abs().max():.3g}")


def _losses(model: Model, batch: Batch) -> dict[str, Tensor]:
    return model.losses(model(batch), batch)


def _total(model: Model, batch: Batch) -> Tensor:
    """The sum of all losses, weighed as in training."""
    losses = _losses(model, batch)
    weights = loss_weights(model.tasks, losses)
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def _optimizer(stage: Stage) -> torch.optim.Optimizer:
    groups = [{"params": list(group.parameters)} for group in stage.groups.values()]
    return torch.optim.Adam(groups, lr=0.01, fused=True)


def _step(model: Model, batch: Batch) -> Tensor:
    """Take the gradients of a batch and let the model remember; return the losses of the predictions alone."""
    output = model(batch)
    losses = model.losses(output, batch)
    weights = loss_weights(model.tasks, losses)
    torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()  # type: ignore[no-untyped-call]
    model.on_batch_end(output, batch)
    return _told(model, output, batch)


def _told(model: Model, output: ModelOutput, batch: Batch) -> Tensor:
    """The losses of the predictions alone: what a model adds to them for its representations is left out."""
    predictions = output.predictions
    return torch.stack(
        [task.weight * task.loss_of(predictions[task.name], task.target(batch.labels)) for task in model.tasks]
    ).sum()


def _train(model: Model, batch: Batch, steps: int, *, enough: float = 0.0) -> None:
    """Train every stage on one batch, as long as it may, until the loss is below ``enough``; then go to evaluation."""
    for stage in model.stages():
        model.train()
        optimizers = [_optimizer(part) for part in stage.passes]
        for epoch in range(min(steps, stage.epochs or steps)):
            for part, optimizer in zip(stage.passes, optimizers, strict=True):
                model.stage = part.name
                model.zero_grad()
                told = _step(model, batch).item()
                if part is not stage or told >= enough:
                    optimizer.step()
            if told < enough:
                break
            model.on_epoch_end(epoch)
    model.stage = "done"
    model.eval()


def check_shapes(case: Case) -> None:
    """Every task has a prediction (..., outputs) whose leading axes are those of the batch's mask."""
    model = case.build()
    for batch in (case.batch(), case.batch(lengths=(1,))):
        predictions = _predict(model, batch).predictions
        _require(set(predictions) == {task.name for task in model.tasks}, case, "not exactly one prediction per task")
        for task in model.tasks:
            shape = (*batch.mask.shape, task.outputs)
            got = tuple(predictions[task.name].shape)
            _require(got == shape, case, f"{task.name!r} has the shape {got}, expected {shape}")
            _require(predictions[task.name].dtype == torch.float32, case, f"{task.name!r} is not float32")


def check_finite(case: Case) -> None:
    """Predictions are finite, also for an utterance without any modality, and the batch is left as it was."""
    model = case.build()
    batch = case.batch()
    before = batch.map(torch.clone)
    for name, y in _real(_predict(model, batch), batch).items():
        _require(y.isfinite().all(), case, f"{name!r} is not finite")
    for name in batch.features:
        same = torch.equal(before.features[name], batch.features[name])
        _require(same and torch.equal(before.masks[name], batch.masks[name]), case, "the batch was changed")
    empty = batch.without(*batch.modalities)
    for name, y in _real(_predict(model, empty), empty).items():
        _require(y.isfinite().all(), case, f"{name!r} is not finite when every modality is missing")


def check_gradients(case: Case) -> None:
    """Every parameter receives a gradient, in its first epochs, in at least one stage that trains it."""
    model = case.build(dropout=False)
    assert isinstance(model, Model)
    reached: set[int] = set()
    for stage in model.stages():
        model.train()
        # a loss may need what the model remembers of the epochs before
        for epoch, part in product(range(REMEMBERED_EPOCHS), stage.passes):
            model.stage = part.name
            model.zero_grad()
            # in a small batch no utterance may have both of two modalities, if some are missing; and where a network
            # shortens sequences to one step, attention to it has no gradient but for rounding
            _step(model, case.batch(missing=0.0, lengths=(3, 5, 2, 4, 30, 3, 24, 5)) if epoch else case.batch())
            for parameter in (parameter for group in part.groups.values() for parameter in group.parameters):
                if parameter.grad is not None:
                    _require(parameter.grad.isfinite().all(), case, f"a gradient is not finite in {part.name!r}")
                    if bool((parameter.grad != 0).any()):
                        reached.add(id(parameter))
            if part is stage:
                model.on_epoch_end(epoch)
    idle = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in reached]
    _require(not idle, case, "no gradient reaches " + ", ".join(idle))


def check_padding(case: Case) -> None:
    """Neither the length of the padding nor what stands in it changes a result."""
    model = case.build()
    batch = case.batch()
    expected = _real(_predict(model, batch), batch)
    for extra, value in ((0, torch.nan), (3, 0.0), (3, torch.nan), (2, 1e4)):
        other = repad(batch, extra, value)
        got = _real(_predict(model, other), other)
        _require_equal(case, expected, got, f"with {extra} steps of padding more, filled with {value}")
        if isinstance(model, Model):
            with torch.no_grad():
                losses, others = _losses(model, batch), _losses(model, other)
            _require_equal(case, losses, others, "the loss under padding")


def check_batch(case: Case) -> None:
    """A batch of one gives what its row in a batch of many gives."""
    model = case.build()
    batch = case.batch()
    many = _predict(model, batch).predictions
    for i in range(batch.size):
        one = take(batch, i)
        expected = {name: y[i : i + 1][batch.mask[i : i + 1]] for name, y in many.items()}
        _require_equal(case, expected, _real(_predict(model, one), one), f"sample {i} alone")


def check_missing_modality(case: Case) -> None:
    """What stands in the place of a missing modality is never looked at."""
    model = case.build()
    full = case.batch(missing=0.0)
    for name in full.modalities:
        batch = full.without(name)
        expected = _real(_predict(model, batch), batch)
        for value in (torch.nan, 1e4):
            other = with_garbage(batch, value)
            _require_equal(case, expected, _real(_predict(model, other), other), f"{value} under the missing {name!r}")


def check_modality_matters(case: Case) -> None:
    """Each modality that is there has a say in the prediction."""
    model = case.build()
    batch = case.batch(missing=0.0)
    expected = _real(_predict(model, batch), batch)
    for name in batch.modalities:
        other = batch.without(name)
        got = _real(_predict(model, other), other)
        _require(any(not torch.equal(expected[k], got[k]) for k in got), case, f"{name!r} has no influence")


def check_checkpoint(case: Case) -> None:
    """What was learned comes back whole from safetensors."""
    model, fresh, batch = case.build(seed=0), case.build(seed=1), case.batch()
    if isinstance(model, Model) and isinstance(fresh, Model):
        with seeded(0):
            _train(model, batch, 2)
        tensors = {name: x.detach().contiguous().clone() for name, x in model.state_dict().items()}
        fresh.load_state_dict(load_tensors(save_tensors(tensors)))
        fresh.stage = model.stage
    else:
        assert isinstance(model, Estimator)
        assert isinstance(fresh, Estimator)
        model.fit([case.batch(seed=7)])
        fresh.load_arrays(load_tensors(save_tensors({k: v.contiguous() for k, v in model.arrays().items()})))
    expected = _real(_predict(model, batch), batch)
    _require_equal(case, expected, _real(_predict(fresh, batch), batch), "after a round trip", tolerance=0.0)


def check_seed(case: Case) -> None:
    """The same seed gives the same trained model, another seed another one."""
    batch = case.batch()

    def outcome(seed: int) -> dict[str, Tensor]:
        model = case.build(seed=seed)
        if isinstance(model, Model):
            with seeded(seed):
                _train(model, batch, 3)
        return _real(_predict(model, batch), batch)

    first = outcome(0)
    _require_equal(case, first, outcome(0), "the same seed again", tolerance=0.0)
    if not issubclass(case.entry.build, Estimator):
        other = outcome(1)
        _require(any(not torch.equal(first[k], other[k]) for k in other), case, "the seed has no influence")


def check_fits(case: Case) -> None:
    """Eight utterances are learned by heart, from one of a few starts: an output may stand still, a loss run away."""
    eight = (4, 4) if case.view is View.CONTEXTUAL else (3,) * 8
    tasks = tuple(t.name for t in make_tasks("polarity", "intensity") if t.kind in case.entry.kinds)
    small = replace(case, tasks=case.tasks or tasks)
    batch = small.batch(lengths=eight, missing=0.0)
    for start in range(STARTS):
        model = small.build(seed=start, dropout=False)
        assert isinstance(model, Model)
        with seeded(start):
            _train(model, batch, 400, enough=0.02)
        output = _predict(model, batch)
        loss = _told(model, output, batch)
        if loss < 0.05:
            break
    _require(loss < 0.05, case, f"after 400 steps the loss on eight utterances is still {loss.item():.3g}")
    for task in model.tasks:
        if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
            right = output.predictions[task.name].argmax(dim=-1) == task.target(batch.labels).squeeze(-1)
            _require(right[batch.mask].all(), case, f"not all of eight utterances are right in {task.name!r}")


def check_modalities(case: Case) -> None:
    """One, two, three and four modalities work, those that the paper does not know too."""
    names = list(FOUR_MODALITIES)
    for chosen in (names[:1], names[2:], names[:3], names):
        other = replace(case, dims={name: FOUR_MODALITIES[name] for name in chosen})
        check_shapes(other)
        check_finite(other)
        if "gradients" in checks_of(case):
            check_gradients(other)


def check_tasks(case: Case) -> None:
    """Every kind of task works alone, with a finite loss; classes and labels get probabilities."""
    for task in make_tasks():
        if task.kind not in case.entry.kinds:
            continue
        other = replace(case, tasks=(task.name,))
        model, batch = other.build(), other.batch(unlabelled=0.3)
        y = _real(_predict(model, batch), batch)[task.name]
        if isinstance(model, Model):
            _require(_total(model, batch).isfinite(), other, "the loss is not finite")
        p = task.probabilities(y)
        if task.kind is not TaskKind.REAL:
            _require(((p >= 0) & (p <= 1)).all(), other, "a probability is not in [0, 1]")


def check_missing_labels(case: Case) -> None:
    """An utterance without labels costs nothing: what is learned is the same with and without it."""
    batch = case.batch(unlabelled=0.3)
    # no longer than the others, so that padding, which is another matter, stays as it is
    strangers = case.batch(seed=9, lengths=(2, 5))
    strangers = replace(strangers, labels={k: torch.full_like(v, torch.nan) for k, v in strangers.labels.items()})
    both = join(batch, strangers)
    model = case.build(dropout=False)
    if not isinstance(model, Model):
        model.fit([batch])
        expected = {name: x.clone() for name, x in model.arrays().items()}
        model.fit([both])
        _require_equal(case, expected, model.arrays(), "with utterances that have no label")
        return
    for part in (part for stage in model.stages() for part in stage.passes):
        model.stage = part.name
        found = []
        for each in (batch, both, strangers):
            model.zero_grad()
            loss = _total(model, each)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
            _require(all(g.isfinite().all() for g in gradients.values()), case, "a gradient is not finite")
            found.append({"loss": loss.detach(), **gradients})
        _require_equal(case, found[0], found[1], "with utterances that have no label")
        nothing = _losses(model, strangers)
        for task in model.tasks:
            _require(nothing.get(task.name, 0.0) == 0.0, case, f"{task.name!r} has a loss without any label")


def check_wrong_input(case: Case) -> None:
    """A batch that lacks a modality, or has it in another width, is refused in one clear sentence."""
    model, batch = case.build(), case.batch()
    name = batch.modalities[0]
    wide = replace(batch, features=batch.features | {name: torch.cat([batch.features[name]] * 2, dim=-1)})
    less = replace(batch, features={k: v for k, v in batch.features.items() if k != name})
    for what, wrong in (("another width", wide), ("a modality less", less)):
        try:
            _predict(model, wrong)
        except AffectusError:
            continue
        raise ContractError(f"{case}: a batch with {what} is not refused")


CHECKS: Mapping[str, Callable[[Case], None]] = {
    "shapes": check_shapes,
    "finite": check_finite,
    "gradients": check_gradients,
    "padding": check_padding,
    "batch": check_batch,
    "missing_modality": check_missing_modality,
    "modality_matters": check_modality_matters,
    "checkpoint": check_checkpoint,
    "seed": check_seed,
    "fits": check_fits,
    "modalities": check_modalities,
    "tasks": check_tasks,
    "missing_labels": check_missing_labels,
    "wrong_input": check_wrong_input,
}
"""Every check by the name under which a model may declare to break it."""
GRADIENT_CHECKS = frozenset({"gradients", "fits"})
"""Checks that ask nothing of an estimator."""

"""The contract over everything that is registered, and that every registration says what a user needs to know."""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from affectus.batches import Batch
from affectus.errors import AffectusError
from affectus.models import MODELS, Model, ModelOutput, register_model
from affectus.testing import CHECKS, Case, ContractError, cases, check_model, checks_of, run_check
from affectus.vocabulary import View

BASELINES = {"majority", "linear"}

# the variants that no preset reaches
VARIANTS = [
    Case("mtmm_es", View.CONTEXTUAL, options={"attention": "none"}),
    Case("mtmm_es", View.CONTEXTUAL, options={"context": False}),
    Case("mmmu_ba", View.CONTEXTUAL, options={"variant": "mmuu_sa"}),
    Case("mmmu_ba", View.CONTEXTUAL, options={"variant": "mu_sa"}),
    Case("mmmu_ba", View.CONTEXTUAL, options={"variant": "none"}),
    Case("bc_lstm", View.CONTEXTUAL, options={"keras_lstm": True}),
    *(
        Case("ufen_mtfn", View.UNALIGNED, options=options)
        for options in (
            {"conv": "parallel", "shared_attention": True, "layers": 3},
            {"unpool": "interpolate", "layers": 3},
            {"unpool": "interpolate", "conv": "parallel", "unimodal_labels": "own"},
            {"layers": 4, "kernels": [1, 3, 5, 3], "filters": [8, 6, 4, 8], "heads": 2},
            {"layers": 1, "loss_weights": {"fused": 3, "reconstructed": 3}},
            {"subtasks": []},
            {"self_attention": False},
            {"convolution": False},
            {"recurrent": False},
            {"cross_modal": False},
            {"encoder_decoder": False},
            {"multi_task": False},
            {"recurrent": False, "convolution": False, "cross_modal": False, "encoder_decoder": False},
        )
    ),
    Case("linear", View.CONTEXTUAL, options={"neighbours": 2}),
    Case("linear", View.ALIGNED, options={"alpha": None, "balanced": True}),
]


COSTLY = {"fits", "modalities", "seed", "checkpoint", "tasks", "missing_labels"}
"""Checks that train, or build many times: slow tests, but in the first form of each model."""
FITTED = {"c_mkl", "svm", "random_forest"}
"""Models that every check fits anew: all of theirs are costly."""


def _contracts() -> list[object]:
    seen, found = set(), []
    for case in [*cases(), *VARIANTS]:
        for check in checks_of(case):
            slow = (case.model, check) in seen and (check in COSTLY or case.model in FITTED)
            seen.add((case.model, check))
            found.append(pytest.param(case, check, id=f"{case}-{check}", marks=pytest.mark.slow if slow else ()))
    return found


@pytest.mark.parametrize(("case", "check"), _contracts())
def test_contract(case: Case, check: str) -> None:
    run_check(case, check)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"text": text}) for name in ("misa", "mmim", "self_mm") for text in ("first", "mean", "recurrent")),
        ("mmim", {"all_pairs": True}),
        ("mmim", {"contrast_weight": 0.0, "information_weight": 0.0}),
        ("misa", {"reconstruction_weight": 0.0, "similarity_weight": 0.0, "difference_weight": 0.0}),
        ("self_mm", {"exclude_zero": False}),
        ("mult", {"positions": False}),
        ("mult", {"causal": False}),
        *((name, {"unimodal_labels": "joint"}) for name in ("mlf_dnn", "mlmf", "mtfn")),
        *((name, {"loss_weights": {"text": 0.0}}) for name in ("mlf_dnn", "mlmf", "mtfn")),
        ("mtfn", {"bounded": False}),
        ("c_mkl", {"cnn": False}),
        ("svm", {"radial": True}),
        ("svm", {"dictionary": False}),
        ("random_forest", {"balanced": False}),
    ],
    ids=str,
)
def test_every_other_value_of_an_option_keeps_what_matters_most(name: str, options: dict[str, object]) -> None:
    """No parameter that never trains, no padding heard, no missing modality heard, whichever way a model is set."""
    view = View.UNALIGNED if View.UNALIGNED in MODELS[name].views else View.CONTEXTUAL
    case = Case(name, view, options=options)
    for check in {"gradients", "padding", "missing_modality"} & set(checks_of(case)):
        run_check(case, check)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("edm", "mtfn", "self_mm", "tfn") else pytest.mark.slow)
        for name in MODELS.names()
        if issubclass(MODELS[name].build, Model)
    ],
)
def test_labels_of_any_range_are_learned(name: str) -> None:
    """Two ratings from 1 to 7 of eight utterances, by heart: nothing is squashed into [-3, 3].

    Those that look at a label's range are tested always, the others among the slow tests.
    """
    view = next(view for view in (View.ALIGNED, View.CONTEXTUAL) if view in MODELS[name].views)
    # without the clipping of a training MMIM's likelihood, which has no bound, drowns the label of eight utterances
    options = {"information_weight": 0.0} if name == "mmim" else {}
    run_check(Case(name, view, options=options, tasks=("ratings",)), "fits")


@pytest.mark.parametrize("name", MODELS.names())
class TestRegistration:
    def test_summary(self, name: str) -> None:
        assert MODELS[name].summary.endswith(".")

    def test_every_option_has_help(self, name: str) -> None:
        assert [option.name for option in MODELS[name].options.values() if not option.help] == []

    def test_every_option_has_a_default(self, name: str) -> None:
        assert [o.name for o in MODELS[name].options.values() if o.default is inspect.Parameter.empty] == []

    def test_comes_from_a_paper_unless_a_baseline(self, name: str) -> None:
        paper = MODELS[name].paper
        if name in BASELINES:
            assert paper is None
        else:
            assert paper is not None
            assert paper.url.startswith("https://")
            assert paper.title.lower() in " ".join((_module_doc(name)).split()).lower()

    def test_module_says_where_it_deviates(self, name: str) -> None:
        if MODELS[name].paper is not None:
            assert "Deviations:" in _module_doc(name)

    def test_broken_contracts_are_contracts(self, name: str) -> None:
        for preset in (None, *MODELS[name].presets):
            assert MODELS[name].broken_contracts(preset) <= set(CHECKS)

    def test_preset_options_exist(self, name: str) -> None:
        for preset in MODELS[name].presets.values():
            assert set(preset.get("options", {})) <= set(MODELS[name].options)


def _module_doc(name: str) -> str:
    return sys.modules[MODELS[name].build.__module__].__doc__ or ""


def test_create_refuses_what_is_unknown() -> None:
    entry, tasks = MODELS["mtmm_es"], Case("mtmm_es", View.CONTEXTUAL).chosen_tasks
    with pytest.raises(AffectusError, match=r"Unknown option 'hiden'.*Did you mean 'hidden'"):
        entry.create({"text": 3}, tasks, {"hiden": 3})
    with pytest.raises(AffectusError, match="'dropout' is out of range"):
        entry.create({"text": 3}, tasks, {"dropout": 1.0})
    with pytest.raises(AffectusError, match="needs a modality at least"):
        entry.create({}, tasks)
    with pytest.raises(AffectusError, match="Unknown preset 'released'"):
        entry.broken_contracts("released")
    with pytest.raises(AffectusError, match=r"cannot learn the task 'intensity'"):
        replace(entry, kinds=frozenset({tasks[0].kind})).create({"text": 3}, tasks)


class _Careless(Model):
    """A model that breaks whatever it is told to break.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        fault: which.
    """

    def __init__(self, *, inputs, tasks, fault: str = "") -> None:  # type: ignore[no-untyped-def]
        super().__init__(inputs=inputs, tasks=tasks)
        self.fault = fault
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.idle = torch.nn.Parameter(torch.ones(1)) if fault == "gradients" else None
        self.layers = torch.nn.ModuleDict(
            {task.name: torch.nn.Linear(sum(inputs.values()), task.outputs) for task in tasks}
        )
        self.memory = 0.0

    def forward(self, batch: Batch) -> ModelOutput:
        parts = []
        for name in self.inputs:
            x, mask = batch.features[name], (batch.masks[name] & batch.mask).unsqueeze(-1)
            if self.fault not in ("missing_modality", "padding"):
                x = torch.where(mask, x, 0.0)
            elif self.fault == "missing_modality":
                x = torch.where(batch.mask.unsqueeze(-1), x, 0.0)
            parts.append(x * (0.0 if self.fault == "modality_matters" and name == "audio" else 1.0))
        x = torch.cat(parts, dim=-1) * self.scale
        if self.fault == "batch":
            x = x - x.mean(dim=(0, 1))
        if self.fault == "padding":
            x = x + x.mean(dim=1, keepdim=True)
        if self.fault == "seed":
            x = x + torch.rand(1, generator=_ENTROPY)
        if self.fault == "checkpoint":
            self.memory += float(self.training)
            x = x + self.memory
        outputs = {name: layer(x) for name, layer in self.layers.items()}
        if self.fault == "finite":
            outputs = {name: y / 0 for name, y in outputs.items()}
        if self.fault == "shapes":
            outputs = {name: y[..., :1] for name, y in outputs.items()}
        if self.fault == "fits":
            outputs = {name: y * 0 + y.detach() for name, y in outputs.items()}
        return ModelOutput(outputs)

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, torch.Tensor]:
        found = super().losses(output, batch)
        if self.fault == "missing_labels":
            found = {name: loss + output.predictions[name].square().mean() for name, loss in found.items()}
        return found


_ENTROPY = torch.Generator().manual_seed(1)


@pytest.fixture
def careless() -> Iterator[str]:
    name = "careless_for_tests"
    register_model(name, paper=None, views={View.CONTEXTUAL})(_Careless)
    yield name
    del MODELS._things[name]


def test_a_plain_model_keeps_the_contract(careless: str) -> None:
    check_model(careless, options={"fault": ""})


FAULTS = [name for name in CHECKS if name not in ("modalities", "tasks", "wrong_input")]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_check_finds_its_fault(careless: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affectus.testing.contract.STARTS", 1)
    with pytest.raises(ContractError, match=careless):
        check_model(careless, options={"fault": fault}, checks=[fault])


def test_a_declared_breach_must_be_one() -> None:
    entry = MODELS["mtmm_es"]
    MODELS._things["boastful_for_tests"] = replace(entry, name="boastful_for_tests", breaks=("padding",))
    try:
        with pytest.raises(ContractError, match="declares that it breaks the contract 'padding', but keeps it"):
            check_model("boastful_for_tests", checks=["padding"])
    finally:
        del MODELS._things["boastful_for_tests"]


def test_unknown_check() -> None:
    with pytest.raises(AffectusError, match="Unknown check 'paddin'"):
        check_model("majority", checks=["paddin"])

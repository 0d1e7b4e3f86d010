"""What a model's own way of training asks of the loop: passes within an epoch, and what it remembers."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import affectus.training.callbacks as callbacks
from affectus.api import train
from affectus.corpus import Corpus
from affectus.models import MODELS
from affectus.training import Run
from affectus.training.module import FitModule
from affectus.training.passes import Passes

SMALL: dict[str, dict[str, Any]] = {
    "self_mm": {"hidden": 4, "encoded": 4, "dense": 6, "fusion_dense": 6},
    "mmim": {"hidden": 4, "encoded": 8, "dense": 6},
    "misa": {"dim": 8, "ffn": 8},
    "mult": {"dim": 8, "heads": 2, "layers": 1},
}
SCHEMES = ("self_mm", "mmim", "misa", "mult")


def fit(model: str, corpus: Corpus, out: Path, training: Mapping[str, Any] | None = None, **options: Any) -> Run:
    settings = {"epochs": 4, "learning_rate": 0.01, "batch_size": 8, "patience": None, "text_layers": 0}
    report = options.pop("report", None)
    return train(
        model,
        corpus,
        tasks=["intensity", "polarity"],
        out=out,
        options={**SMALL[model], **options},
        training={**settings, **(training or {})},
        report=report,
    )


def weights(run: Run, file: str = "model") -> dict[str, np.ndarray]:
    return load_file(run.seed_folder(0) / f"{file}.safetensors")


def history(run: Run) -> list[dict[str, Any]]:
    lines = (run.seed_folder(0) / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


class StoppedError(Exception):
    pass


def stop_after(epoch: int) -> Callable[[Any], None]:
    def report(event: Any) -> None:
        if event.epoch == epoch:
            raise StoppedError

    return report


@pytest.mark.parametrize("model", SCHEMES)
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Bit for bit: made labels, remembered features, both optimisers, accumulated steps and lowered rates."""
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    training = {"accumulate": 2, "plateau": 0, "clip": 0.5, "clip_by": "value"}
    whole = fit(model, corpus, tmp_path / "whole", training)
    with pytest.raises(StoppedError):
        fit(model, corpus, tmp_path / "stopped", training, report=stop_after(2))
    seen: list[int] = []
    resumed = fit(model, corpus, tmp_path / "stopped", training, report=lambda event: seen.append(event.epoch))
    assert seen == [2, 3]
    assert history(resumed) == history(whole)
    assert set(weights(resumed)) == set(weights(whole))
    assert all(np.array_equal(weights(resumed)[name], value) for name, value in weights(whole).items())


def test_what_is_remembered_matters_to_a_resumed_run(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the resumed run would be another: so the test above shows something."""
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    whole = fit("self_mm", corpus, tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit("self_mm", corpus, tmp_path / "stopped", report=stop_after(2))
    path = tmp_path / "stopped" / "seed-0" / "resume.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    tables = [name for name in checkpoint["state_dict"] if name.endswith("memory.text._extra_state")]
    assert len(tables) == 1
    assert len(checkpoint["state_dict"][tables[0]]) > 0
    for name in checkpoint["state_dict"]:
        if name.endswith("_extra_state"):
            checkpoint["state_dict"][name] = checkpoint["state_dict"][name][:0]
    torch.save(checkpoint, path)
    resumed = fit("self_mm", corpus, tmp_path / "stopped")
    assert history(resumed)[:2] == history(whole)[:2]
    assert history(resumed)[3:] != history(whole)[3:]


@pytest.mark.parametrize("select", ["task_loss", "per_task"])
@pytest.mark.parametrize("model", ["self_mm", "mmim"])
def test_the_trained_model_does_not_hold_the_training_utterances(
    corpus: Corpus, tmp_path: Path, model: str, select: str
) -> None:
    run = fit(model, corpus, tmp_path / "run", {"select": select, "epochs": 2})
    for file in ["model"] if select == "task_loss" else ["model.intensity", "model.polarity"]:
        found = weights(run, file)
        tables = {name: value for name, value in found.items() if name.endswith("_extra_state")}
        assert tables
        assert all(value.shape[0] == 0 for value in tables.values())
    again = run.predict(run.model(0), corpus, "valid")
    stored = run.valid_predictions(0)
    assert stored is not None
    for task, said in stored.probabilities.items():
        assert np.array_equal(again.probabilities[task], said)


def test_history_of_self_mm(corpus: Corpus, tmp_path: Path) -> None:
    rows = history(fit("self_mm", corpus, tmp_path / "run"))
    heads = {f"train.loss.{task}.{name}" for task in ("intensity", "polarity") for name in ("text", "audio")}
    assert heads <= set(rows[0])
    assert all(rows[0][name] == 0 for name in heads)  # labels are made from the second epoch on
    assert any(rows[-1][name] > 0 for name in heads)
    assert not [name for name in rows[0] if name.startswith("valid.loss.intensity.")]


def test_history_of_two_passes(corpus: Corpus, tmp_path: Path) -> None:
    rows = history(fit("mmim", corpus, tmp_path / "run", {"epochs": 8}))
    first = [row["train.loss.bound.likelihood"] for row in rows]
    assert first[-1] < first[0]
    parts = ("intensity", "polarity", "contrast", "likelihood")
    assert all(f"train.loss.{name}" in rows[0] for name in parts)
    # the sum is that of the second pass alone; the entropy is a mean over the batches that have it
    whole = sum(rows[0][f"valid.loss.{name}"] for name in parts)
    assert rows[0]["valid.loss"] == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("weighing", ["uncertainty", "pcgrad"])
@pytest.mark.parametrize("model", ["self_mm", "mmim", "misa"])
def test_other_ways_to_weigh(corpus: Corpus, tmp_path: Path, model: str, weighing: str) -> None:
    rows = history(fit(model, corpus, tmp_path / "run", {"weighing": weighing, "epochs": 6, "accumulate": 2}))
    assert min(row["train.loss.polarity"] for row in rows) < rows[0]["train.loss.polarity"]


class TestPasses:
    """The batches of several passes as one."""

    @staticmethod
    def loader(count: int) -> Any:
        loader = SimpleNamespace(order=list(range(count)), batch_sampler="sampler")

        class Listed:
            batch_sampler = loader.batch_sampler

            def __len__(self) -> int:
                return count

            def __iter__(self) -> Any:
                return iter(loader.order)

        return Listed()

    def test_batches_and_their_places(self) -> None:
        passes = Passes(self.loader(5), [0.5, 1.0])
        assert list(passes) == [0, 1, 2, 0, 1, 2, 3, 4]
        assert len(passes) == 8
        assert [passes.place(i) for i in range(8)] == [(0, 0), (0, 1), (0, 2), *((1, i) for i in range(5))]
        assert passes.batch_sampler == "sampler"
        assert [passes.group(0, i, 2) for i in range(3)] == [2, 2, 1]
        assert [passes.group(1, i, 3) for i in range(5)] == [3, 3, 3, 2, 2]

    def test_each_pass_moves_its_own_parameters(self, corpus: Corpus, tmp_path: Path) -> None:
        """With a share of the batches too; the gradient of one pass leaves nothing to the other."""
        moved: dict[str, set[str]] = {}
        original = FitModule.training_step

        def watched(self: FitModule, batch: Any, batch_idx: int) -> Any:
            before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
            assert all(p.grad is None for p in self.model.parameters())
            result = original(self, batch, batch_idx)
            changed = {n.split(".")[0] for n, p in self.model.named_parameters() if not torch.equal(p, before[n])}
            moved.setdefault(self.model.stage, set()).update(changed)
            counts[self.model.stage] = counts.get(self.model.stage, 0) + 1
            return result

        counts: dict[str, int] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FitModule, "training_step", watched)
            fit("mmim", corpus, tmp_path / "run", {"epochs": 3, "batch_size": 4}, bound_share=0.5)
        assert moved["bound"] == {"gaussians"}
        assert moved["main"] == {"encoders", "fusion", "heads", "predict", "projections"}
        assert counts["bound"] == 3 * -(-(counts["main"] // 3) // 2)


class TestSteps:
    """How often the optimiser steps, and with which gradient; in the Trainer's hands and by hand."""

    @pytest.fixture
    def steps(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The largest value of the gradient at each step."""
        found: list[float] = []
        original = torch.optim.SGD.step

        def step(self: torch.optim.SGD, *arguments: Any, **named: Any) -> Any:
            result = original(self, *arguments, **named)
            grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            found.append(max(float(grad.abs().max()) for grad in grads))
            return result

        monkeypatch.setattr(torch.optim.SGD, "step", step)
        return found

    @staticmethod
    def even(corpus: Corpus) -> Corpus:
        """Training utterances all with a label, sixteen of them."""
        known = ~np.isnan(corpus.label("sentiment")[:, 0])
        train_rows = [row for row in corpus.rows("train") if known[row]][:16]
        return corpus.select(np.array(sorted([*train_rows, *corpus.rows("valid")])))

    def run(
        self, corpus: Corpus, out: Path, model: str = "mult", tasks: Sequence[str] = ("intensity",), **training: Any
    ) -> Run:
        dropouts = [name for name in MODELS[model].options if name.endswith("dropout")]
        return train(
            model,
            corpus,
            tasks=tasks,
            out=out,
            options={**SMALL[model], **dict.fromkeys(dropouts, 0.0)},
            training={
                **{"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 0.0, "epochs": 2, "buckets": False},
                **{"clip": None, "patience": None, "plateau": None, **training},
            },
        )

    @pytest.mark.parametrize(("model", "passes"), [("mult", 1), ("mmim", 2)])
    def test_two_batches_are_one_of_twice_the_size(
        self, corpus: Corpus, tmp_path: Path, steps: list[float], model: str, passes: int
    ) -> None:
        even = self.even(corpus)
        # the bounds of MMIM compare the utterances of a batch, so that its size matters to them
        nothing = {"contrast_weight": 0.0, "information_weight": 0.0} if model == "mmim" else {}
        found = {}
        for name, training in (("one", {"batch_size": 8}), ("two", {"batch_size": 4, "accumulate": 2})):
            steps.clear()
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(SMALL, model, {**SMALL[model], **nothing})
                found[name] = weights(self.run(even, tmp_path / name, model, **training))
            assert len(steps) == 2 * 2
        for name, value in found["one"].items():
            np.testing.assert_allclose(found["two"][name], value, atol=1e-5)
        steps.clear()
        self.run(even, tmp_path / "passes", model, batch_size=8)
        assert len(steps) == 2 * 2 * passes

    @pytest.mark.parametrize("model", ["mult", "mmim"])
    def test_the_last_batches_of_an_epoch_count_too(
        self, corpus: Corpus, tmp_path: Path, steps: list[float], model: str
    ) -> None:
        """Five batches, a step after each three: two steps (MMSA drops what is left at the end)."""
        even = self.even(corpus)
        passes = len(MODELS[model].create(even.dims, [], SMALL[model]).stages()[0].passes)
        self.run(even, tmp_path / "run", model, batch_size=3, accumulate=4, epochs=1)
        assert len(steps) == 2 * passes

    @pytest.mark.parametrize("weighing", ["fixed", "pcgrad"])
    @pytest.mark.parametrize("model", ["mult", "mmim"])
    def test_the_last_step_of_an_epoch_takes_the_mean_too(
        self, corpus: Corpus, tmp_path: Path, model: str, weighing: str
    ) -> None:
        """Four batches, of which eight would make a step: the same as a step after four."""
        even = self.even(corpus)
        common = {"batch_size": 4, "epochs": 1, "weighing": weighing}
        tasks = ["intensity", "polarity"]
        found = [weights(self.run(even, tmp_path / f"{n}", model, tasks, accumulate=n, **common)) for n in (4, 8)]
        for name, value in found[0].items():
            np.testing.assert_allclose(found[1][name], value, atol=1e-6)

    @pytest.mark.parametrize("model", ["mult", "mmim"])
    def test_clipping_by_value(self, corpus: Corpus, tmp_path: Path, steps: list[float], model: str) -> None:
        even = self.even(corpus)
        self.run(even, tmp_path / "whole", model)
        assert max(steps) > 0.01
        steps.clear()
        self.run(even, tmp_path / "clipped", model, clip=0.01, clip_by="value")
        assert max(steps) == pytest.approx(0.01)
        steps.clear()
        self.run(even, tmp_path / "norm", model, clip=0.01)
        assert max(steps) < 0.0099

    @pytest.mark.parametrize("model", ["mult", "mmim"])
    def test_rates_fall_on_a_plateau(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
    ) -> None:
        rates: list[list[float]] = []
        original = FitModule.finish_epoch

        def finish(self: FitModule) -> dict[str, float]:
            rates.append([group["lr"] for optimizer in self._optimizers for group in optimizer.param_groups])
            return original(self)

        monkeypatch.setattr(FitModule, "finish_epoch", finish)
        settings = {"epochs": 12, "learning_rate": 1.0, "clip": 0.5, "plateau": 1, "plateau_factor": 0.5}
        rows = history(self.run(self.even(corpus), tmp_path / "run", model, **settings))
        best, waited, rate = float("inf"), 0, 1.0
        for row, found in zip(rows, rates, strict=True):
            assert found == pytest.approx([rate] * len(found))
            # more than one epoch that is not better by a ten-thousandth
            better = row["valid.loss"] < best * (1 - 1e-4)
            best, waited = (row["valid.loss"], 0) if better else (best, waited + 1)
            if waited > 1:
                rate, waited = rate / 2, 0
        assert rate < 1.0  # else this would show nothing

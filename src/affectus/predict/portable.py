"""A run as one file for other programs: an ONNX network, or a program of ``torch.export``, and a JSON that explains it.

The file takes the features as they are in a corpus and gives what ``affectus predict`` gives: scaling, the mean over
the seeds, and the last step to probabilities are part of it. Batch and lengths are free. A modality that is missing is
a mask of False, or rows of zeros, as in training.
"""

import logging
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import affectus
from affectus.batches import Batch, Scaler
from affectus.errors import AffectusError, unknown_name
from affectus.evaluation.evaluate import average, thresholds_on
from affectus.features.media.extras import need
from affectus.files import atomic_path, write_json
from affectus.models import Model
from affectus.models.with_text import TextModel
from affectus.objectives import Task, TaskKind
from affectus.training.inference import PerTask
from affectus.training.loading import Run, load_run
from affectus.training.optional import use_compiler
from affectus.vocabulary import TEXT, View

TOLERANCE = 1e-4
"""How far the file may be from the run, in probabilities, or in shares of the largest number."""
CHECKED_LENGTHS = (1, 2, 5, 13, 40)
"""Steps, or utterances of a video, of the longest sample of the batches with which a file is checked."""
LARGEST = 2_000_000_000
"""Bytes of an ONNX file's weights."""
EXPORT = "pip install 'affectus[export]'"
Arrays = Mapping[str, npt.NDArray[Any]]


class Format(StrEnum):
    """What is written."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"

    @property
    def ending(self) -> str:
        """Of the files that hold it."""
        return {Format.ONNX: ".onnx", Format.TORCH_EXPORT: ".pt2"}[self]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the network.
        sidecar: of the JSON beside it.
        description: what the JSON says.
    """

    path: Path
    sidecar: Path
    description: dict[str, Any] = field(repr=False)

    @property
    def difference(self) -> float | None:
        """The largest difference from the run that the check found; None without a check."""
        found: float | None = (self.description["check"] or {}).get("largest_difference")
        return found


class PortableNetwork(nn.Module):
    """Models behind their scaling, before their probabilities: from named tensors to named tensors.

    Args:
        models: of one kind, trained; the outputs are the mean of theirs.
        tasks: what they predict.
        view: that they read.
        scaler: fitted on train.
    """

    def __init__(self, models: Sequence[Model], tasks: Sequence[Task], view: View, scaler: Scaler) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.tasks, self.view, self.inputs = tuple(tasks), view, dict(models[0].inputs)
        for name in self.inputs:
            # a list of buffers, so that a modality may have any name
            self.register_buffer(f"shift_{name}", torch.from_numpy(scaler.shift[name]))
            self.register_buffer(f"factor_{name}", torch.from_numpy(scaler.factor[name]))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tell.

        Args:
            inputs: of each modality its unscaled features (B, T, dim) and under ``<modality>_mask`` which steps are
                real (B, T); in the contextual view T counts utterances, and ``mask`` (B, T) says which are.

        Returns:
            Per task (B, outputs), contextual (B, T, outputs): probabilities, or the numbers themselves.
        """
        features, masks = {}, {}
        for name in self.inputs:
            x = inputs[name]
            # as the loader has it: sources write zeros, or -inf, where nothing was measured
            masks[name] = inputs[f"{name}_mask"] & ((x != 0) & x.isfinite()).any(dim=-1)
            scaled = (x - self.get_buffer(f"shift_{name}")) * self.get_buffer(f"factor_{name}")
            features[name] = torch.where(masks[name].unsqueeze(-1) & scaled.isfinite(), scaled, 0.0)
        if self.view is View.CONTEXTUAL:
            mask = inputs["mask"]
            masks = {name: there & mask for name, there in masks.items()}
        else:
            mask = torch.ones_like(next(iter(masks.values()))[:, 0])
        batch = Batch(self.view, features, masks, mask, {}, mask.long())
        said = [model(batch).predictions for model in self.models]
        return {
            task.name: torch.stack([task.probabilities(each[task.name]) for each in said]).mean(dim=0)
            for task in self.tasks
        }

    def input_names(self) -> list[str]:
        """Names of the inputs, in order."""
        named = [part for name in self.inputs for part in (name, f"{name}_mask")]
        return [*named, "mask"] if self.view is View.CONTEXTUAL else named


def export_run(
    run: Run | str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    seed: int | None = None,
    check: bool = True,
) -> Exported:
    """Write a run as one file for other programs, and ``<file>.json``, which says what goes in and what comes out.

    Args:
        run: trained by gradient, or its folder.
        out: the file.
        format: ``onnx``, or ``torch-export`` (for ``torch.export.load``, from Python or C++, without affectus); None
            for the one that the file's ending names (``.onnx``, ``.pt2``), ONNX for any other ending.
        seed: whose model; None for the mean of all, as ``affectus predict`` has it.
        check: compare it with the run on random features of several lengths, with and without modalities.

    Raises:
        AffectusError: the file's ending is that of the other format, the run's model is not trained by gradient or
            trains a text encoder, the run has no such seed, a package is absent, or the file says something else than
            the run.
    """
    out = Path(out)
    kind = choose_format(format, out)
    run = run if isinstance(run, Run) else load_run(run)
    if kind is Format.ONNX:
        for package in ("onnx", "onnxscript", *(("onnxruntime",) if check else ())):
            need(package, "Exports to ONNX", install=EXPORT)
    network = network_of(run, seed)
    with _without_gradients(network), atomic_path(out) as temporary:
        program = trace(network)
        write_program(program, network, kind, temporary)
        found = check_file(network, kind, temporary) if check else None
    description = _describe(run, network, kind, seed, found)
    sidecar = out.with_name(f"{out.name}.json")
    write_json(sidecar, description)
    return Exported(out, sidecar, description)


def choose_format(format: str | None, out: Path) -> Format:
    """Return the format of a file: the one that is asked for, else the one that its ending names, else ONNX.

    Raises:
        AffectusError: the format is unknown, or the ending is that of the other one.
    """
    if format is not None and format not in list(Format):
        raise unknown_name("format", format, list(Format))
    named = next((kind for kind in Format if out.suffix.lower() == kind.ending), None)
    kind = Format(format) if format is not None else named or Format.ONNX
    if named is not None and named is not kind:
        raise AffectusError(
            "The ending of the file is not that of the format",
            got=f"{out.name} for {kind}",
            expected=f"a name that ends in {kind.ending}",
            remedy=f"Leave --format out to write {named}",
        )
    return kind


def network_of(run: Run, seed: int | None = None) -> PortableNetwork:
    """Return a run's models, or one seed's, behind their scaling and before their probabilities.

    Raises:
        AffectusError: the run has no such seed, its model is not trained by gradient, or it trains a text encoder.
    """
    if seed is not None and seed not in run.seeds:
        raise AffectusError(
            "The run has no such seed",
            got=seed,
            expected="one of: " + ", ".join(map(str, run.seeds)),
            where=run.folder,
        )
    models = []
    for number in run.seeds if seed is None else (seed,):
        model = run.model(number)
        if not isinstance(model, Model):
            raise AffectusError(
                f"The model {run.config.model!r} is no network, so it cannot be exported",
                where=run.folder,
                expected="a model that is trained by gradient",
                remedy="Use `affectus predict`, or train a network: affectus models",
            )
        parts = model.models.values() if isinstance(model, PerTask) else [model]
        if any(isinstance(part, TextModel) for part in parts):
            raise AffectusError(
                "The run trained layers of a text encoder, which are not exported with it",
                where=run.folder,
                remedy="Write the encoder with `affectus features encoder`, make text features with it, and train on "
                "those, or train with text_layers=0",
            )
        models.append(model.cpu().eval())
    return PortableNetwork(models, run.tasks, run.config.view, run.scaler).eval()


def trace(network: PortableNetwork) -> torch.export.ExportedProgram:
    """Trace a network with free batch and lengths."""
    # sizes that no network has, so that none is taken for another
    example = _tensors(random_inputs(network, 13, 17, np.random.default_rng(0)))
    batch, common = torch.export.Dim("batch"), torch.export.Dim(_steps_of(network.view, ""))
    shapes: dict[str, dict[int, Any]] = {}
    for name in network.input_names():
        modality = name.removesuffix("_mask")
        apart = network.view is View.UNALIGNED
        shapes[name] = {0: batch, 1: torch.export.Dim(_steps_of(network.view, modality)) if apart else common}
    if network.view is View.UNALIGNED:
        for name in network.inputs:  # one length for the features and their mask
            shapes[f"{name}_mask"] = shapes[name]
    use_compiler()  # what trained in this process left a stand-in
    with _quiet():
        return torch.export.export(network, (example,), dynamic_shapes={"inputs": shapes}, strict=False)


def _steps_of(view: View, modality: str) -> str:
    """Name of the second axis."""
    return {View.CONTEXTUAL: "utterances", View.ALIGNED: "steps"}.get(view, f"{modality}_steps")


def write_program(program: torch.export.ExportedProgram, network: PortableNetwork, kind: Format, path: Path) -> None:
    """Write a traced network.

    Raises:
        AffectusError: it is too large for one ONNX file.
    """
    if kind is Format.TORCH_EXPORT:
        with path.open("wb") as stream:
            torch.export.save(program, stream)
        return
    weights = sum(x.numel() * x.element_size() for x in program.state_dict.values())
    if weights > LARGEST:
        raise AffectusError(
            "The network is too large for one ONNX file",
            got=f"{weights:,} bytes of weights",
            expected=f"{LARGEST:,} at most",
            remedy="Export one seed (--seed), or use --format torch-export",
        )
    with _quiet():
        found = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=network.input_names(),
            output_names=[task.name for task in network.tasks],
        )
        assert found is not None
        found.save(str(path), external_data=False)


class PortableFile:
    """A file that :func:`export_run` wrote, to be asked: by onnxruntime or by PyTorch.

    Args:
        path: of the file.
        kind: its format.
        threads: of the runtime.
    """

    def __init__(self, path: Path, kind: Format, *, threads: int = 1) -> None:
        if kind is Format.ONNX:
            runtime = need("onnxruntime", "ONNX files", install=EXPORT)
            options = runtime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.log_severity_level = 3
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.outputs = [output.name for output in self.session.get_outputs()]
            # an input that no output depends on is not one
            self.read = {given.name for given in self.session.get_inputs()}
        else:
            self.session = None
            with path.open("rb") as stream, _quiet():
                self.program = torch.export.load(stream).module()

    def __call__(self, inputs: Arrays) -> dict[str, npt.NDArray[np.float32]]:
        """Return the outputs by name."""
        if self.session is not None:
            said = self.session.run(self.outputs, {name: x for name, x in inputs.items() if name in self.read})
            return dict(zip(self.outputs, said, strict=True))
        with torch.no_grad():
            return {name: y.numpy() for name, y in self.program(_tensors(inputs)).items()}


def check_file(network: PortableNetwork, kind: Format, path: Path) -> dict[str, Any]:
    """Compare a file with the models that it was made of.

    Batches of one and of three samples, whose longest has 1 to 40 steps; whole ones, ones in which each modality is
    missing in turn or alone there, and ones in which a third of everything is.

    Returns:
        The lengths, the number of batches, and the largest difference.

    Raises:
        AffectusError: it is too large.
    """
    asked, largest, count = PortableFile(path, kind), 0.0, 0
    generator = np.random.default_rng(1)
    for inputs, what in _checked(network, generator):
        count += 1
        expected = predict_inputs(network, inputs)
        given = asked(inputs)
        for task in network.tasks:
            real = inputs["mask"] if network.view is View.CONTEXTUAL else slice(None)
            wanted, said = expected[task.name][real], given[task.name][real]
            scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
            difference = float(np.abs(wanted - said).max(initial=0.0)) / scale
            if not difference <= TOLERANCE:
                raise AffectusError(
                    f"The exported network says something else of {task.name!r} than the run",
                    where=what,
                    got=f"a difference of {difference:.2g}",
                    expected=f"{TOLERANCE:g} at most",
                    remedy="Nothing was written; please report the model and its options",
                )
            largest = max(largest, difference)
    return {"lengths": list(CHECKED_LENGTHS), "batches": count, "largest_difference": largest}


def _checked(network: PortableNetwork, generator: np.random.Generator) -> Iterator[tuple[dict[str, Any], str]]:
    names = list(network.inputs)
    for length in CHECKED_LENGTHS:
        for size in (1, 3):
            yield random_inputs(network, size, length, generator), f"{size} samples of up to {length} steps"
        for name in names if len(names) > 1 else ():
            for missing in ((name,), tuple(other for other in names if other != name)):
                inputs = random_inputs(network, 3, length, generator)
                for other in missing:
                    inputs[f"{other}_mask"][:] = False
                yield inputs, f"{length} steps without {', '.join(missing)}"
        inputs = random_inputs(network, 3, length, generator, missing=1 / 3)
        yield inputs, f"{length} steps, a third of them missing"


def random_inputs(
    network: PortableNetwork, size: int, length: int, generator: np.random.Generator, *, missing: float = 0.0
) -> dict[str, npt.NDArray[Any]]:
    """Return random inputs of a network, its features about as far from their mean as those of train.

    Args:
        network: whose.
        size: samples.
        length: of the longest; unaligned, each further modality has two steps more.
        generator: of the random numbers.
        missing: share of the steps, or utterances, that are missing.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    contextual = network.view is View.CONTEXTUAL
    lengths = np.r_[length, generator.integers(1, length + 1, size - 1)]
    for i, (name, dim) in enumerate(network.inputs.items()):
        more = 2 * i if network.view is View.UNALIGNED else 0
        steps = length + more
        factor = network.get_buffer(f"factor_{name}").numpy()
        spread = np.where(factor > 0, 1 / np.where(factor > 0, factor, 1.0), 1.0)
        x = generator.standard_normal((size, steps, dim)) * spread + network.get_buffer(f"shift_{name}").numpy()
        real = np.arange(steps) < (lengths + more)[:, None]
        found[name] = x.astype(np.float32)
        found[f"{name}_mask"] = real & (generator.random(real.shape) >= missing)
    if contextual:
        found["mask"] = np.arange(length) < lengths[:, None]
    return found


def predict_inputs(network: PortableNetwork, inputs: Arrays) -> dict[str, npt.NDArray[np.float32]]:
    """Return what the models say of the inputs on affectus's own path: its scaling, its packed recurrences."""
    arrays = {name: inputs[name] for name in network.inputs}
    scaler = Scaler(
        {name: network.get_buffer(f"shift_{name}").numpy() for name in network.inputs},
        {name: network.get_buffer(f"factor_{name}").numpy() for name in network.inputs},
    )
    masks, features = {}, {}
    for name, raw in arrays.items():
        masks[name] = inputs[f"{name}_mask"] & ((raw != 0) & np.isfinite(raw)).any(axis=-1)
        features[name] = np.where(masks[name][..., None], scaler.apply(name, raw), np.float32(0))
    contextual = network.view is View.CONTEXTUAL
    mask = inputs["mask"] if contextual else np.ones(len(arrays[next(iter(arrays))]), bool)
    rows = torch.full(mask.shape, -1)
    batch = Batch(network.view, _tensors(features), _tensors(masks), torch.from_numpy(mask), {}, rows)
    with torch.inference_mode():
        said = [model(batch).predictions for model in network.models]
        return {
            task.name: np.mean([task.probabilities(each[task.name]).numpy() for each in said], axis=0)
            for task in network.tasks
        }


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(x) for name, x in arrays.items()}


def _describe(
    run: Run, network: PortableNetwork, kind: Format, seed: int | None, check: dict[str, Any] | None
) -> dict[str, Any]:
    seeds = run.seeds if seed is None else (seed,)
    valid = [said for said in map(run.valid_predictions, seeds) if said is not None]
    chosen = thresholds_on(run, average(valid)) if valid else {}
    inputs: list[dict[str, Any]] = []
    for name, dim in network.inputs.items():
        steps = _steps_of(network.view, name)
        meaning = "features as the corpus has them, unscaled"
        if network.view is View.CONTEXTUAL:
            meaning = "one vector per utterance, unscaled: the mean over its steps"
        if name == TEXT and run.file.text is not None:
            meaning += f"; vectors of the text encoder {run.config.training.text_encoder}"
        inputs.append({"name": name, "shape": ["batch", steps, dim], "type": "float32", "meaning": meaning})
        inputs.append(
            {
                "name": f"{name}_mask",
                "shape": ["batch", steps],
                "type": "bool",
                "meaning": "true where there is something; all false for a sample that lacks the modality",
            }
        )
    if network.view is View.CONTEXTUAL:
        meaning = "true for the utterances of a video, false for padding"
        inputs.append({"name": "mask", "shape": ["batch", "utterances"], "type": "bool", "meaning": meaning})
    lead = ["batch", "utterances"] if network.view is View.CONTEXTUAL else ["batch"]
    return {
        "affectus": affectus.__version__,
        "format": str(kind),
        "model": run.config.model,
        "run": run.folder.name,
        "seeds": list(seeds),
        "corpus": run.file.corpus.name,
        "view": str(network.view),
        "scale": f"{run.config.training.scale}, part of the network",
        "inputs": inputs,
        "outputs": [
            {
                "name": task.name,
                "shape": [*lead, task.outputs],
                "kind": str(task.kind),
                "values": list(task.values),
                "low": task.low,
                "high": task.high,
                "meaning": "the numbers themselves" if task.kind is TaskKind.REAL else "probabilities",
                "thresholds": None
                if task.name not in chosen
                else {
                    "weighted_f1": list(chosen[task.name].weighted_f1),
                    "weighted_accuracy": list(chosen[task.name].weighted_accuracy),
                },
            }
            for task in network.tasks
        ],
        "check": check,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", *(("onnx", "onnxscript") if kind is Format.ONNX else ()))},
    }


@contextmanager
def _without_gradients(network: nn.Module) -> Iterator[None]:
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of packages that it does not need and of its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


__all__ = ["Exported", "Format", "PortableFile", "PortableNetwork", "check_file", "export_run", "network_of", "trace"]

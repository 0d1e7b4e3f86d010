import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from affectus.batches import Batch
from affectus.vocabulary import View

Source = str | tuple[str, slice] | tuple[str, Callable[[Tensor], Tensor]]
"""A weight of theirs, some rows of one, or what is made of one."""


@dataclass(frozen=True)
class Golden:
    """What MMSA gave, from a file that tests/golden/make_mmsa_*.py wrote."""

    tensors: dict[str, Tensor]
    facts: dict[str, object]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """All tensors under a prefix, without it."""
        return {k.removeprefix(f"{prefix}."): x for k, x in self.tensors.items() if k.startswith(f"{prefix}.")}

    @property
    def inputs(self) -> dict[str, int]:
        """Width of each modality."""
        return {name: self[f"input.{name}"].shape[-1] for name in ("text", "audio", "vision")}

    def batch(self, **labels: Tensor) -> Batch:
        """The batch that both sides see: no padding."""
        features = self.group("input")
        features = {name: features[name] for name in self.inputs}
        count = len(features["text"])
        return Batch(
            View.UNALIGNED,
            features,
            {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in features.items()},
            torch.ones(count, dtype=torch.bool),
            labels or {"sentiment": self["label"]},
            torch.arange(count),
        )

    def taken(self, source: Source, prefix: str = "weight") -> Tensor:
        """A weight of theirs, or its gradient."""
        name, part = source if isinstance(source, tuple) else (source, slice(None))
        whole = self[f"{prefix}.{name}"]
        return part(whole) if callable(part) else whole[part]

    def copy(self, model: nn.Module, mapping: Mapping[str, Source]) -> None:
        """Copy their weights into ours; every parameter of ours must be named."""
        ours = dict(model.named_parameters())
        assert set(ours) == set(mapping)
        with torch.no_grad():
            for name, source in mapping.items():
                ours[name].copy_(self.taken(source).view_as(ours[name]))

    def unused(self, mapping: Mapping[str, Source]) -> set[str]:
        """Their weights that ours have no place for."""
        used = {source if isinstance(source, str) else source[0] for source in mapping.values()}
        return set(self.group("weight")) - used

    def check_gradients(self, model: nn.Module, mapping: Mapping[str, Source]) -> None:
        """Check that the gradients are theirs, relative to the largest one of each weight."""
        for name, parameter in model.named_parameters():
            source = mapping[name]
            key = source if isinstance(source, str) else source[0]
            assert parameter.grad is not None, name
            if f"grad.{key}" not in self.tensors:
                assert (parameter.grad == 0).all(), name
                continue
            expected = self.taken(source, "grad").view_as(parameter)
            scale = max(float(expected.abs().max()), 1e-3)
            torch.testing.assert_close(parameter.grad / scale, expected / scale, atol=2e-5, rtol=1e-4, msg=name)


@pytest.fixture
def mmsa() -> Callable[[str], Golden]:
    """Golden values by the model's name."""

    def read(name: str) -> Golden:
        path = Path(__file__).parents[1] / "golden" / f"mmsa_{name}.safetensors"
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            # NumPy's contiguous arrays have an axis at least
            tensors |= {key: x.squeeze() for key, x in tensors.items() if key.startswith("loss")}
            return Golden(tensors, {key: json.loads(value) for key, value in file.metadata().items()})

    return read


@pytest.fixture
def subnet_places() -> tuple[dict[str, Source], Callable[[Golden, nn.Module], None]]:
    """Where the networks before the fusion (LF-DNN, TFN, LMF) stand in MMSA, and a copy of their statistics."""
    kinds = ("weight", "bias")
    names = {"audio": "audio_subnet", "vision": "video_subnet"}
    found: dict[str, Source] = {
        f"subnets.nets.text.recurrent.layer.{name}_l0": f"text_subnet.rnn.{name}_l0"
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    found |= {f"subnets.nets.text.layer.{kind}": f"text_subnet.linear_1.{kind}" for kind in kinds}
    for ours, theirs in names.items():
        found |= {f"subnets.nets.{ours}.norm.norm.{kind}": f"{theirs}.norm.{kind}" for kind in kinds}
        for i in range(3):
            found |= {f"subnets.nets.{ours}.layers.{i}.{kind}": f"{theirs}.linear_{i + 1}.{kind}" for kind in kinds}

    def copy_statistics(golden: Golden, model: nn.Module) -> None:
        for ours, theirs in names.items():
            for name in ("running_mean", "running_var"):
                place = model.get_buffer(f"subnets.nets.{ours}.norm.norm.{name}")
                place.copy_(golden[f"buffer.{theirs}.norm.{name}"])

    return found, copy_statistics

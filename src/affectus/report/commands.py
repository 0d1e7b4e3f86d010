"""Command lines that repeat a run or a report."""

import json
import shlex
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from affectus.models import MODELS
from affectus.training.config import resolve_settings
from affectus.training.loading import Run


def train_command(run: Run) -> str:
    """Return the command that trains the run again; its corpus is not known by place, so it stands as CORPUS."""
    config = run.config
    options, training = resolve_settings(MODELS[config.model], preset=config.preset)
    changed = _changed(options, config.options) | _changed(training.model_dump(), config.training.model_dump())
    # one seed alone would read as a count
    seeds = ",".join(map(str, config.seeds)) + ("," if len(config.seeds) == 1 else "")
    words = ["affectus", "train", config.model, "CORPUS", "--tasks", ",".join(config.tasks)]
    words += ["--modalities", ",".join(config.modalities), "--seeds", seeds, "--view", str(config.view)]
    words += ["--preset", config.preset] if config.preset else []
    words += [word for key, value in changed.items() for word in ("--set", f"{key}={_yaml(value)}")]
    return shlex.join([*words, "--out", "RUN"])


def report_command(
    runs: Sequence[Path],
    corpus: Path | None,
    out: Path,
    *,
    split: str,
    protocol: str,
    video: str | None,
) -> str:
    """Return the command that writes the report again."""
    words = ["affectus", "report", *map(str, runs), "--corpus", "CORPUS" if corpus is None else str(corpus)]
    words += ["--split", split, "--protocol", protocol, *(["--video", video] if video else []), "--out", str(out)]
    return shlex.join(words)


def _changed(default: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if key not in default or _plain(default[key]) != _plain(value)}


def _plain(value: Any) -> Any:
    # run.json has lists where the code has tuples
    return json.loads(json.dumps(value))


def _yaml(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return value if isinstance(value, str) else json.dumps(value)

"""The processes that analyse: they decode and predict, so that the server itself does neither."""

import contextlib
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from affectus.errors import AffectusError
from affectus.threads import end_with_parent

TELL_SECONDS = 0.2
"""Progress is told no more often."""


@dataclass(frozen=True)
class Order:
    """What a worker is asked to do; plain values, so that the server need not import what the work needs.

    Attributes:
        job: id of the analysis.
        kind: ``media`` or ``review``.
        values: of the task's fields.
    """

    job: str
    kind: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Event:
    """What a worker tells.

    Attributes:
        job: id of the analysis.
        stage: what is being done.
        share: how much is done, 0 to 1.
        summary: what came of it, at its end.
        error: why nothing came of it.
    """

    job: str
    stage: str = ""
    share: float = 0.0
    summary: dict[str, Any] | None = None
    error: str | None = None


def serve(pipe: Connection, model: Path | None, threads: int) -> None:
    """In a worker: do what is asked until nothing more is."""
    end_with_parent()
    limit_process()
    models: dict[str, Any] = {}
    while True:
        try:
            order: Order = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send(_done(order, pipe, models, model))
        except (KeyboardInterrupt, BrokenPipeError):
            return


def limit_process() -> None:
    """Leave no core files, and let the server go before this process when both want to run."""
    import os

    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)


def _done(order: Order, pipe: Connection, models: dict[str, Any], model: Path | None) -> Event:
    told = 0.0
    last = ""

    def tell(stage: str, share: float) -> None:
        nonlocal told, last
        if stage != last or time.monotonic() - told > TELL_SECONDS:
            told, last = time.monotonic(), stage
            pipe.send(Event(order.job, stage, min(max(share, 0.0), 1.0)))

    try:
        tell("starting", 0.0)
        from affectus.predict.predictor import Predictor

        def predictor() -> Predictor:
            if "own" not in models:
                models["own"] = Predictor.load(model)
            found: Predictor = models["own"]
            return found

        if order.kind == "review":
            from affectus.app.reviewing import ReviewTask, review

            summary = review(ReviewTask(**order.values), predictor, tell)
        else:
            from affectus.app.analysing import MediaTask, analyse_media

            summary = analyse_media(MediaTask(**order.values), predictor(), tell)
    except AffectusError as error:
        return Event(order.job, error=told_without_paths(str(error), order))
    except MemoryError:
        return Event(order.job, error="There is not enough memory for it.")
    except Exception as error:
        # a defect: the page says so, and the terminal shows where
        import traceback

        traceback.print_exc()
        return Event(order.job, error=f"A defect of affectus: {type(error).__name__}. The terminal shows more.")
    return Event(order.job, "done", 1.0, summary=summary)


def told_without_paths(sentence: str, order: Order) -> str:
    """Return an error with the name that the sender gave in place of where the file is kept."""
    path = order.values.get("path")
    if path is None:
        return sentence
    return sentence.replace(str(path), str(order.values["name"])).replace(str(Path(path).parent), "its folder")

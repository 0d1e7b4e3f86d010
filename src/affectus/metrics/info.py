"""What is known of a metric, and the list of all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from affectus.registry import Registry

MetricKind = Literal["real", "binary", "one_of_k", "multi_label"]
Direction = Literal["higher", "lower"]

F = TypeVar("F", bound=Callable[..., float])


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """A metric and how to read it.

    Attributes:
        name: Its name, which states its rule.
        function: ``function(truth, prediction)`` gives a float.
        kind: The kind of label that it judges. Metrics of ``one_of_k`` judge binary labels too.
        range: The smallest and the largest value that it takes.
        direction: Whether the ``higher`` or the ``lower`` value is the better one.
        rule: What it counts, in one sentence.
        empty_class: What it gives when a class has no utterance or nothing varies.
        citation: Where it comes from.
    """

    name: str
    function: Callable[..., float]
    kind: MetricKind
    range: tuple[float, float]
    direction: Direction
    rule: str
    empty_class: str
    citation: str


METRICS: Registry[MetricInfo] = Registry("metric")
"""Every metric by name; other packages add theirs through the entry-point group ``affectus.metrics``."""


def register_metric(
    *,
    kind: MetricKind,
    rule: str,
    empty_class: str,
    citation: str,
    range: tuple[float, float] = (0.0, 1.0),
    direction: Direction = "higher",
) -> Callable[[F], F]:
    """Return a decorator that adds a function to ``METRICS`` under its own name and leaves it as it is.

    The arguments are those of ``MetricInfo``.
    """

    def decorate(function: F) -> F:
        name = function.__name__
        METRICS.add(
            name,
            MetricInfo(
                name=name,
                function=function,
                kind=kind,
                range=range,
                direction=direction,
                rule=rule,
                empty_class=empty_class,
                citation=citation,
            ),
        )
        return function

    return decorate

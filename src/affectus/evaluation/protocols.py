"""Protocols: which rules turn predictions into figures, and what the choice of epoch and thresholds may see."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from affectus.evaluation.scoring import CAI_INTENSITY, MMSA_INTENSITY, SIMS_INTENSITY, Metric
from affectus.registry import Registry


class Choice(StrEnum):
    """Where epoch and thresholds are chosen."""

    VALID = "valid"
    EVALUATED = "evaluated"


@dataclass(frozen=True)
class Protocol:
    """A way to judge a run.

    Attributes:
        name: in the registry and on the command line.
        summary: what it does, in a sentence or two.
        choice: where the epoch and the thresholds are chosen. On the evaluated split itself, the figures are an
            oracle's: an upper bound, not an estimate.
        intensity: the rules for sentiment intensity.
    """

    name: str
    summary: str
    choice: Choice = Choice.VALID
    intensity: Mapping[str, Metric] = field(default_factory=lambda: MMSA_INTENSITY)

    @property
    def oracle(self) -> bool:
        """True if the evaluated split itself chooses epoch and thresholds."""
        return self.choice is Choice.EVALUATED


PROTOCOLS: Registry[Protocol] = Registry("protocol")


def register_protocol(protocol: Protocol) -> Protocol:
    """Add a protocol to the list."""
    PROTOCOLS.add(protocol.name, protocol)
    return protocol


register_protocol(
    Protocol(
        "akhtar2019",
        "Accuracy and weighted F1 of polarity; per emotion weighted F1 and weighted accuracy, with one threshold for "
        "each of the two, chosen on valid from the paper's grid. Epoch chosen on valid.",
    )
)
register_protocol(
    Protocol(
        "akhtar2019-released",
        "As the code released with the paper: for every figure by itself the best epoch and threshold on the evaluated "
        "split. An oracle: an upper bound that no model reaches on new data.",
        choice=Choice.EVALUATED,
    )
)
register_protocol(
    Protocol(
        "mmsa",
        "Sentiment intensity by the rules of MMSA for CMU-MOSI and CMU-MOSEI: accuracies of 3, 5 and 7 classes on "
        "values clipped and rounded half to even, of 2 classes with and without neutral utterances.",
    )
)
register_protocol(
    Protocol(
        "mmsa-sims",
        "Sentiment intensity by the rules of MMSA for CH-SIMS: values clipped to [-1, 1] first, 0 is negative.",
        intensity=SIMS_INTENSITY,
    )
)
register_protocol(
    Protocol(
        "cai2025",
        "Sentiment intensity as Cai et al. 2025 on CMU-MOSI and CMU-MOSEI: the rules of MMSA with values rounded half "
        "away from zero.",
        intensity=CAI_INTENSITY,
    )
)

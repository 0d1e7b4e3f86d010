"""Every model on a corpus, or on several: trained, judged and ranked alike."""

from affectus.studies.benchmarking.crossing import cross
from affectus.studies.benchmarking.ranking import benchmark

__all__ = ["benchmark", "cross"]

"""The contract that every model keeps, as checks that any test suite can run, and random batches to run them on."""

from affectus.testing.batches import DIMS, SCHEMES, join, make_batch, make_tasks, repad, take, with_garbage
from affectus.testing.contract import CHECKS, Case, ContractError, cases, check_model, checks_of, run_check

__all__ = [
    "CHECKS",
    "DIMS",
    "SCHEMES",
    "Case",
    "ContractError",
    "cases",
    "check_model",
    "checks_of",
    "join",
    "make_batch",
    "make_tasks",
    "repad",
    "run_check",
    "take",
    "with_garbage",
]

"""Ray Tune as the hand that trains a search's trials; the study, its sampler and its pruner are those of Optuna.

Only the driver opens the study's database: it asks for a trial, Ray Tune trains it somewhere, and what comes back is
told. So a study may be begun on a cluster and go on without one, and the other way round.
"""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from affectus.cluster.executor import ATTEMPTS
from affectus.cluster.session import Cluster
from affectus.corpus import load_corpus
from affectus.errors import AffectusError, WriteError
from affectus.studies.tuning import (
    Ending,
    Job,
    Pruning,
    TrialReporter,
    end_trial,
    next_trial,
    open_study_database,
    train_trial,
    without_test,
)

if TYPE_CHECKING:
    import optuna

ENDED = "ended"
STATE, VALUE, REASON, EPOCH = "state", "value", "reason", "epoch"
UNWRITTEN = "unwritten"
"""The state of a trial that has not ended, since nothing can be written."""


def search_on(cluster: Cluster) -> Any:
    """Return what trains the trials of a search on a cluster, for :func:`affectus.studies.tuning.tune`."""

    def search(job: Job, report: TrialReporter | None) -> None:
        with cluster.connected() as ray:
            _search(ray, cluster, job, report)

    return search


def _search(ray: Any, cluster: Cluster, job: Job, report: TrialReporter | None) -> None:
    from ray import tune

    scratch = job.out / ".ray"
    shutil.rmtree(scratch, ignore_errors=True)
    study = Study(job, report)
    if study.full:
        return
    resources = {"CPU": cluster.threads, **({"GPU": cluster.gpus} if cluster.gpus else {})}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_here, job=job), tune.PlacementGroupFactory([resources])),
        tune_config=tune.TuneConfig(
            num_samples=job.trials,
            max_concurrent_trials=min(cluster.places(ray), job.trials),
            search_alg=study.searcher(),
            scheduler=study.scheduler(),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
        ),
    )
    try:
        tuner.fit()
    except ray.exceptions.RayError as error:
        raise AffectusError(
            "The cluster did not go on",
            where=cluster.address,
            got=" ".join(str(error).split())[:300],
            remedy="Give the same command again: trials that ended stay",
        ) from None
    finally:
        study.close()
        shutil.rmtree(scratch, ignore_errors=True)
    if study.unwritten is not None:
        raise study.unwritten


def train_here(config: Mapping[str, Any], job: Job) -> None:
    """In a worker: train a trial, telling each epoch's figure and the end."""
    from ray import tune

    def tell(epoch: int, value: float) -> bool:
        tune.report({EPOCH: epoch, VALUE: value, ENDED: False})
        return False  # the driver ends what is to be given up

    corpus = without_test(load_corpus(job.corpus))
    try:
        state, value, reason = train_trial(job, config["number"], config["settings"], corpus, tell)
    except WriteError as error:
        state, value, reason = UNWRITTEN, None, str(error)
    tune.report({EPOCH: -1, VALUE: value, STATE: state, REASON: reason, ENDED: True})


class Study:
    """The study as Ray Tune's search and its scheduler see it."""

    def __init__(self, job: Job, report: TrialReporter | None) -> None:
        self.job, self.report = job, report
        self.study = open_study_database(job.out, job.facts["metric"])
        self.open: dict[str, tuple[optuna.trial.Trial, Pruning, ExitStack]] = {}
        self.unwritten: WriteError | None = None

    @property
    def full(self) -> bool:
        """Whether as many trials have ended as are wanted."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False)) >= self.job.trials

    def close(self) -> None:
        """Let go of the trials that have not ended; they are gone on with next time."""
        for *_, held in self.open.values():
            held.close()

    def begin(self, name: str) -> dict[str, Any] | None:
        """Return the configuration of a trial to train; None if there are enough, or nothing can be written."""
        if self.unwritten is not None:
            return None
        held = ExitStack()
        trial, settings = next_trial(self.job, self.study, held)
        if trial is None:
            return None
        self.open[name] = trial, Pruning(self.job, self.study, trial), held
        return {"number": trial.number, "settings": settings}

    def hopeless(self, name: str, result: Mapping[str, Any]) -> bool:
        """Take note of an epoch; return whether the trial is to be given up."""
        if result.get(ENDED, True):
            return False
        return self.open[name][1].hopeless(int(result[EPOCH]), float(result[VALUE]))

    def end(self, name: str, result: Mapping[str, Any] | None, error: bool) -> None:
        """Write down how a trial ended."""
        if name not in self.open:
            return
        trial, _, held = self.open.pop(name)
        ending: Ending
        if error or result is None:
            ending = "failed", None, f"The worker that had it ended, {ATTEMPTS} times."
        elif result.get(STATE) == UNWRITTEN:
            self.unwritten = WriteError(str(result[REASON]).rstrip("."))
            held.close()
            return
        elif result.get(ENDED):
            ending = result[STATE], result[VALUE], result[REASON]
        else:
            ending = "pruned", None, ""
        with held:
            end_trial(self.job, self.study, trial, ending, self.report)

    def searcher(self) -> Any:
        """Return what gives Ray Tune its trials."""
        from ray.tune.search import Searcher

        study = self

        class Asking(Searcher):
            def suggest(self, trial_id: str) -> Any:
                return study.begin(trial_id) or Searcher.FINISHED

            def on_trial_complete(
                self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
            ) -> None:
                study.end(trial_id, result, error)

            def save(self, checkpoint_path: str) -> None:
                """Nothing: the study has its database."""

            def restore(self, checkpoint_path: str) -> None:
                """Nothing: the study has its database."""

        return Asking(metric=VALUE, mode="max")

    def scheduler(self) -> Any:
        """Return what tells Ray Tune which trials to give up."""
        from ray.tune.schedulers import FIFOScheduler

        study = self

        class Giving(FIFOScheduler):
            def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
                return str(self.STOP if study.hopeless(trial.trial_id, result) else self.CONTINUE)

        giving: Any = Giving  # its base is not typed
        return giving()

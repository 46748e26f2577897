"""Fine-tuning of a multi-task model for each task on its own (arXiv 1901.11504, section 4)."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tensorflow as tf
from absl import logging

from mtdnn_tf.data.splits import open_dev
from mtdnn_tf.distribution.signals import Stop, leave_if_told
from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.evaluation.evaluator import evaluate
from mtdnn_tf.experiment.file import assignments, build_experiment, load_experiment, set_key
from mtdnn_tf.experiment.settings import Experiment, MixtureSettings
from mtdnn_tf.files import write_atomically
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.loading import load
from mtdnn_tf.training.dry_run import dry_run
from mtdnn_tf.training.loop import train

Metrics = dict[str, dict[str, dict[str, float]]]
REPORT_FILE = "finetune.json"


@dataclass(frozen=True)
class FineTuningReport:
    """What fine-tuning changed.

    Attributes:
        before: Task, split and metric to its value in the run that was started from, a fraction.
        after: The same of the best checkpoint of each task's own run.
        examples: Task and split to the number of examples.
    """

    before: Metrics
    after: Metrics
    examples: dict[str, dict[str, int]]


def finetune_experiment(
    run: str, config: Path | None, settings: Sequence[str] = (), data_dir: str | None = None
) -> Experiment:
    """The experiment that a run's copies are fine-tuned with, all tasks still in it.

    Args:
        run: The run to start from.
        config: An experiment file; by default the run's own experiment, with each task's examples
            once an epoch.
        settings: `key=value` texts that override single keys.
        data_dir: Overrides `data.data_dir`.

    Raises:
        UserError: There is no such run, or a setting is wrong.
    """
    settings = [*settings, *assignments({"init.run": run})]
    if config is not None:
        RunDirectory(run).read_experiment()  # It has to be there.
        return load_experiment(config, settings, data_dir)
    tree = RunDirectory(run).read_experiment().model_dump(mode="json")
    tree["mixture"] = MixtureSettings().model_dump(mode="json")
    for setting in settings:
        set_key(tree, setting)
    if data_dir:
        tree["data"]["data_dir"] = data_dir
    return build_experiment(tree, run)


class FineTuning:
    """Runs of one task each, all started from the same run.

    Args:
        experiment: With the run to start from, and all tasks.
        workdir: The folder for the run directories; None for dry runs.
        tasks: Names of the tasks to fine-tune for; by default all.
        strategy: The distribution strategy; by default the current one.

    Raises:
        UserError: There is no such task, or the workdir is a run directory itself.
    """

    def __init__(
        self,
        experiment: Experiment,
        workdir: Path | None,
        tasks: Sequence[str] = (),
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self._experiment = experiment
        self._strategy = strategy or tf.distribute.get_strategy()
        heads = {task.name: task for task in experiment.heads}
        for name in tasks:
            if name not in heads:
                raise UserError(
                    f"--tasks: no task {name!r} to fine-tune{did_you_mean(name, heads)}"
                )
        self._tasks = [heads[name] for name in tasks or heads]
        if workdir is not None:
            self._workdir = workdir
            if RunDirectory(workdir).exists:
                raise UserError(
                    f"{workdir} is a run directory; choose a --workdir that is to hold one a task"
                )

    def dry_runs(self) -> Iterator[str]:
        """Builds every task's copy and takes a few steps; what was built, a text a task.

        Raises:
            UserError: See `dry_run`.
        """
        for task in self._tasks:
            built = dry_run(single_task(self._experiment, task.name), self._strategy)
            yield f"fine-tuning for {task.name}: {built}"

    def run(self, stop: Stop = ()) -> FineTuningReport:
        """Trains every task's copy that is not trained yet, and compares.

        Args:
            stop: See `train`.

        Raises:
            UserError: See `train`.
            Interrupted: It was told to stop, and the state was saved.
        """
        for task in self._tasks:
            logging.info("fine-tuning for %s in %s", task.name, self._workdir / task.name)
            experiment = single_task(self._experiment, task.name)
            train(experiment, self._workdir / task.name, self._strategy, stop)
        report = self._compare(stop)
        write_atomically(
            self._workdir / REPORT_FILE,
            json.dumps({"init_from": self._experiment.init.run, **asdict(report)}, indent=2) + "\n",
        )
        return report

    def _compare(self, stop: Stop) -> FineTuningReport:
        before: Metrics = {}
        after: Metrics = {}
        examples: dict[str, dict[str, int]] = {}
        for task in self._tasks:
            for metrics, run in ((before, self._experiment.init.run), (after, None)):
                leave_if_told(stop, f"all copies are trained in {self._workdir}")
                with self._strategy.scope():
                    loaded = load(run or self._workdir / task.name)
                if task.name not in loaded.tasks:
                    continue  # The task is new: there is nothing before.
                sources = open_dev([task], self._experiment.data, loaded.tokenizer)
                if sources:
                    result = evaluate(loaded.runner, sources)
                    metrics |= result.metrics
                    examples |= result.examples
        return FineTuningReport(before, after, examples)


def single_task(experiment: Experiment, task: str) -> Experiment:
    """The part of an experiment that is of one task, and of those that its head predicts.

    Args:
        experiment: The experiment.
        task: Name of a task with a head.
    """
    tasks = {
        name: other
        for name, other in experiment.tasks.items()
        if task in (name, other.predict_with)
    }
    tree = experiment.model_dump() | {"tasks": {n: t.model_dump() for n, t in tasks.items()}}
    for parts in ("folds", "subsets"):
        of_all = tree["data"][parts]
        tree["data"][parts] = {name: part for name, part in of_all.items() if name == task}
    for parts in ("teachers", "tasks"):
        of_all = tree["distillation"][parts]
        tree["distillation"][parts] = {name: part for name, part in of_all.items() if name == task}
    if experiment.init.heads is not None:
        tree["init"]["heads"] = tuple(name for name in experiment.init.heads if name == task)
    if experiment.mixture.weights:
        tree["mixture"] = MixtureSettings().model_dump()
    return Experiment.model_validate(tree)

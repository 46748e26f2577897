"""Training, from an experiment to a run directory.

The same call goes on where an earlier one was cut off, bit for bit as if it had never been.
"""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orbit
import tensorflow as tf

from mtdnn_tf.distribution.signals import Interrupted, Stop
from mtdnn_tf.distribution.workers import Workers
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.evaluator import LogitsRunner, evaluate, evaluation_shape
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.training.run import TrainingRun
from mtdnn_tf.training.run_log import RunLog
from mtdnn_tf.training.setup import reproducible


def train(
    experiment: Experiment,
    workdir: Path,
    strategy: tf.distribute.Strategy | None = None,
    stop: Stop = (),
) -> None:
    """Trains, or goes on training, in a run directory; in any thread, one training at a time.

    Of the process it changes the seeds of Python, NumPy and TensorFlow, which stay changed.

    Args:
        experiment: What to train.
        workdir: The run directory. Where it holds a run of the same experiment, that run goes on
            from its last checkpoint. Several workers share it; the chief alone writes it.
        strategy: The distribution strategy; by default the current one.
        stop: Signals that came, as a list that grows (see `stop_signals`), or that a thread puts one
            into: then the state is saved after the loop of steps under way.

    Raises:
        UserError: Something the user gave is wrong, the disk is full, or another worker is gone.
        Interrupted: This or another worker was told to stop, and the state was saved.
    """
    directory = RunDirectory(workdir)
    strategy = strategy or tf.distribute.get_strategy()
    workers = Workers(strategy)
    lock = directory.locked() if workers.is_chief else contextlib.nullcontext()
    with lock, workers.loss_of_one_told(), reproducible(experiment.training):
        TrainingLoop(TrainingRun(experiment, directory, strategy)).run(stop)


class TrainingLoop:
    """Takes a run to its end: loops of steps, dev metrics after an epoch, checkpoints in between.

    Args:
        run: The run, which may have come some way.
    """

    def __init__(self, run: TrainingRun) -> None:
        self._run, self._settings = run, run.experiment.training
        done, is_chief = run.count("step"), run.workers.is_chief
        self._log = RunLog(run.directory, run.plan.total_steps, done, is_chief)
        self._runner = LogitsRunner(
            run.model, evaluation_shape(run.experiment, run.strategy), run.strategy
        )
        self._controller: orbit.Controller  # Made by `run`.

    def run(self, stop: Stop = ()) -> None:
        """Trains to the end.

        Args:
            stop: See `train`.

        Raises:
            UserError: The disk is full, or the loss is no longer a number.
            Interrupted: It was told to stop, and the state was saved.
        """
        run = self._run
        path = run.directory.path
        if run.is_new:
            with _disk_errors(path):
                run.begin()
        self._describe()
        if run.count("epochs_evaluated") < self._settings.epochs:
            self._label(stop)
        self._controller = self._new_controller()
        with self._log.progress, _disk_errors(path):
            while (epoch := run.count("epochs_evaluated")) < self._settings.epochs:
                step, end_of_epoch = run.count("step"), int(run.plan.epoch_ends[epoch])
                self._leave_if_told(stop)
                if step == end_of_epoch:
                    self._end_epoch(epoch)
                else:
                    self._train_loop(step, min(step + self._settings.steps_per_loop, end_of_epoch))

    def _label(self, stop: Stop) -> None:
        """Has the teachers label what is missing in the cache of soft targets, if that comes first."""
        teaching = self._run.teaching
        if teaching is None or not teaching.labels_first:
            return
        with contextlib.suppress(Interrupted):  # The workers leave together, below.
            if labelled := teaching.label(stop):
                self._log.progress.print(
                    f"the teachers labelled {labelled:,} examples, in {teaching.cache_dir}"
                )
        self._leave_if_told(stop)  # The other workers wait here for the chief.
        teaching.read_cache()

    def _leave_if_told(self, stop: Stop) -> None:
        """The workers leave together, whichever of them the signal came to."""
        run = self._run
        if came := max(run.workers.gather(stop[0] if stop else 0)):
            run.save()
            place = f"step {run.count('step')} of {run.plan.total_steps} in {run.directory.path}"
            raise Interrupted(signal.Signals(came), f"saved at {place}")

    def _describe(self) -> None:
        run, show = self._run, self._log.progress.print
        show(run.plan.describe())
        if run.count("epochs_evaluated") == self._settings.epochs:
            show(f"{run.directory.path} is trained already")
        elif run.count("step"):
            show(f"going on from step {run.count('step')}")

    def _new_controller(self) -> orbit.Controller:
        run = self._run
        # Orbit prints a line a loop, and the bar is ours.
        orbit.controller.print = lambda line: None
        return orbit.Controller(
            trainer=run.trainer(),
            strategy=run.strategy,
            global_step=run.state["step"],
            steps_per_loop=self._settings.steps_per_loop,
            summary_dir=str(run.directory.events) if run.workers.is_chief else None,
            train_actions=[self._log_loop],
        )

    def _train_loop(self, step: int, end: int) -> None:
        run = self._run
        self._loop_start = time.monotonic()
        self._controller.train(end, checkpoint_at_completion=False)
        if run.average:
            run.average.update(end, end - step)
        every = self._settings.checkpoint_every_steps
        if end // every > step // every:
            run.save()

    def _log_loop(self, output: dict[str, Any]) -> None:
        """Logs one loop of steps; called by the controller, which adds `output` to TensorBoard."""
        run = self._run
        step = run.count("step")
        self._log.loop(
            output,
            step=step,
            epoch=run.plan.epoch_of(step - 1) + 1,
            slots=run.experiment.batch.rows * run.plan.shape.length,
            learning_rate=float(run.schedule(step - 1)),
            seconds=time.monotonic() - self._loop_start,
        )

    def _end_epoch(self, epoch: int) -> None:
        """Evaluates, logs, and saves the best and the last checkpoint, in this order.

        Killed anywhere in between, the next process does it again from the same state.
        """
        run = self._run
        with run.average.in_place() if run.average else contextlib.nullcontext():
            self._evaluate(epoch)
        run.state["epochs_evaluated"].assign(epoch + 1)
        run.save()

    def _evaluate(self, epoch: int) -> None:
        """Evaluates the dev splits, if it is time, and saves the model if it is the best."""
        run = self._run
        step, dev = run.count("step"), run.data.dev
        evaluates = (epoch + 1) % self._settings.evaluate_every_epochs == 0
        evaluates |= epoch + 1 == self._settings.epochs
        # Without dev splits the last epoch is the best.
        score = -math.inf if dev else float(epoch)
        record = None
        if dev and evaluates:
            result = evaluate(self._runner, dev)
            score = result.mean
            record = self._log.epoch(result, step=step, epoch=epoch + 1)
            if run.workers.is_chief:
                summaries = self._controller.summary_manager
                # Not within `dev`, whose names are those of tasks.
                summaries.write_summaries({"dev": result.metrics, "dev_mean": result.mean})
                summaries.flush()
        if score > run.state["best_score"].numpy():
            run.state["best_score"].assign(score)
            run.checkpoints.save_best(step, record)
            if dev:
                self._log.predictions(dev, result)


# What TensorFlow's errors of files have of the system's; else ResourceExhausted is of memory.
_OF_A_DISK = ("No space left", "File too large", "Disk quota", "Permission denied")


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Tells a failed write of TensorBoard's events, or too little memory, in one line."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
        first = error.message.splitlines()[0]
        if any(reason in first for reason in _OF_A_DISK):
            raise UserError(f"cannot write in {path}: {first}") from error
        raise UserError(
            f"out of memory ({first}); lower batch.rows, or raise batch.pieces; the same command then "
            "needs another --workdir"
        ) from error

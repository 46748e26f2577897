"""A training run, from an experiment to a run directory.

The same call goes on where an earlier one was cut off, bit for bit as if it had never been.
"""

import contextlib
import json
import math
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orbit
import tensorflow as tf
from absl import logging

from mtdnn_tf.config import Experiment
from mtdnn_tf.data.pipeline import as_dataset, replicas_of
from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.data.splits import open_run_data
from mtdnn_tf.data.tokenizer import BertTokenizer
from mtdnn_tf.distillation.teaching import Teaching
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically
from mtdnn_tf.modeling import build_mtdnn, encoder_of
from mtdnn_tf.pretrained import load_config
from mtdnn_tf.run_directory import RunDirectory, fixed_settings
from mtdnn_tf.training.averaging import WeightAverage
from mtdnn_tf.training.checkpoint import Checkpoints
from mtdnn_tf.training.evaluation import LogitsRunner, evaluate, evaluation_shape
from mtdnn_tf.training.optimizer import build_optimizer, learning_rate_schedule
from mtdnn_tf.training.run_log import RunLog
from mtdnn_tf.training.setup import (
    counter,
    give_replicas_own_dropout,
    seed_everything,
    uses_xla,
)
from mtdnn_tf.training.signals import Interrupted, stop_signals
from mtdnn_tf.training.start import find_start
from mtdnn_tf.training.trainer import Trainer
from mtdnn_tf.training.workers import Workers


def train(
    experiment: Experiment, workdir: Path, strategy: tf.distribute.Strategy | None = None
) -> None:
    """Trains, or goes on training, in a run directory.

    Args:
        experiment: What to train.
        workdir: The run directory. Where it holds a run of the same experiment, that run goes on
            from its last checkpoint. Several workers share it; the chief alone writes it.
        strategy: The distribution strategy; by default the current one.

    Raises:
        UserError: Something the user gave is wrong, the disk is full, or another worker is gone.
        Interrupted: SIGTERM or Ctrl-C came to this or another worker, and the state was saved.
    """
    directory = RunDirectory(workdir)
    strategy = strategy or tf.distribute.get_strategy()
    workers = Workers(strategy)
    lock = directory.locked() if workers.is_chief else contextlib.nullcontext()
    with stop_signals() as stop, lock, workers.loss_of_one_told():
        TrainingRun(experiment, directory, strategy).run(stop)


class TrainingRun:
    """Everything that a run holds in memory, restored from the last checkpoint if there is one.

    Args:
        experiment: What to train.
        directory: Where; locked by the caller.
        strategy: The distribution strategy; by default the current one.

    Attributes:
        plan: All batches of the run.
        model: The Keras model.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: RunDirectory,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self._experiment, self._directory = experiment, directory
        self._strategy = strategy or tf.distribute.get_strategy()
        self._workers = workers = Workers(self._strategy)
        self._settings = settings = experiment.training
        seed_everything(settings)
        self._is_new = not self._is_there()
        if self._is_new:
            if workers.is_chief:
                directory.make_room()
            start = find_start(experiment)
            config, self._tokenizer = start.config, start.tokenizer
            self._licences = start.licences
        else:
            directory.check_same(experiment)
            config = load_config(directory.encoder)
            self._tokenizer = BertTokenizer.load(directory.path)
        self._data = workers.chief_first(
            lambda: open_run_data(
                experiment.heads,
                experiment.data,
                self._tokenizer,
                experiment.distillation.teachers,
            )
        )
        workers.check_same(json.dumps(self._data.summary()), "the examples")
        self.plan = TrainingPlan(
            experiment, self._data.all_train(), self._strategy.num_replicas_in_sync
        )
        with self._strategy.scope():
            self.model = build_mtdnn(
                config,
                experiment.heads,
                pooling=experiment.encoder.pooling,
                dtype=settings.precision,
                recompute=settings.recompute,
            )
            self._schedule = learning_rate_schedule(settings, self.plan.total_steps)
            self._optimizer = build_optimizer(settings, self._schedule)
            self._optimizer.build(self.model.trainable_variables)
            self._average = None
            if settings.average_decay is not None:
                self._average = WeightAverage(self.model, settings.average_decay)
            self._state = {
                "step": counter(tf.int64, 0),
                "epochs_evaluated": counter(tf.int64, 0),
                "best_score": counter(tf.float64, -1e9),
            }
        self._checkpoints = Checkpoints(
            directory.checkpoints,
            self.model,
            self._optimizer,
            self._state,
            settings.keep_checkpoints,
            workers.is_chief,
            self._average.variables if self._average else None,
        )
        if self._is_new:
            logging.info("%s", start.fill(self.model))
            if self._average:
                self._average.start()
        else:
            self._resume()
        workers.check_same(json.dumps(config.to_hf_dict()), "the encoder's settings")
        workers.check_same_weights(self.model)
        give_replicas_own_dropout(self._strategy, self.model)
        self._teaching: Teaching | None = None
        if experiment.distillation.teachers:
            self._teaching = Teaching(
                experiment,
                directory,
                self.model,
                self._tokenizer,
                self._data,
                self._strategy,
                self.plan.total_steps,
            )
            self._teaching.begin(self._get("epochs_evaluated"))

    def _is_there(self) -> bool:
        """Whether the directory holds a run; no worker goes on before all have looked.

        Raises:
            UserError: The workers do not share the directory, or were not given the same settings.
        """
        settings = json.dumps(fixed_settings(self._experiment), sort_keys=True)
        self._workers.check_same(settings, "the settings")
        there = self._workers.gather(self._directory.exists)
        if len(set(there)) > 1:
            raise UserError(
                f"{self._directory.path} holds a run on some workers and none on others; "
                "the workdir must be one folder that all of them share"
            )
        return bool(there[0])

    def _begin(self) -> None:
        """Writes the small files and the first checkpoint; the config last, which makes it a run."""
        directory = self._directory
        if self._workers.is_chief:
            directory.begin()
            config = encoder_of(self.model).config
            encoder_file = directory.encoder / "config.json"
            write_atomically(encoder_file, json.dumps(config.to_hf_dict(), indent=2))
            for path in self._licences:
                shutil.copyfile(path, directory.encoder / path.name)
            self._tokenizer.save(directory.path)
            write_atomically(directory.data_file, json.dumps(self._data.summary(), indent=2))
        self._save()
        if self._workers.is_chief:
            directory.write_experiment(self._experiment)

    def _resume(self) -> None:
        directory = self._directory
        if self._workers.is_chief:
            directory.remove_partial_files()
        before = directory.read_json(directory.data_file)
        now = self._data.summary()
        for name in {**before, **now}:
            if before.get(name, {}).get("key") != now.get(name, {}).get("key"):
                raise UserError(
                    f"the examples of {name} are not those that the run in {directory.path} began "
                    "with; choose another --workdir"
                )
        if not self._checkpoints.restore():
            raise UserError(
                f"{directory.path} has a config.yaml but no checkpoint; choose another --workdir"
            )
        step, epochs = self._get("step"), self._get("epochs_evaluated")
        self._workers.check_same(f"{step} {epochs}", "the steps of the checkpoint")
        if self._workers.is_chief:
            directory.rewind_metrics(step, epochs)

    def _get(self, name: str) -> int:
        return int(self._state[name].numpy())

    def _save(self) -> None:
        if self._teaching is not None:
            self._teaching.save()
        # Steps and evaluations: the sum grows with every change of the state.
        self._checkpoints.save(self._get("step") + self._get("epochs_evaluated"))
        self._workers.wait()  # No worker leaves while the chief writes.

    def trainer(self) -> Trainer:
        """A trainer that goes on from the restored step."""
        plan, first = self.plan, self._get("step")
        dataset = self._strategy.distribute_datasets_from_function(
            lambda context: as_dataset(
                lambda: plan.batches(first, replicas_of(context)), plan.shape, plan.pieces
            )
        )
        return Trainer(
            model=self.model,
            tasks=self._experiment.heads,
            optimizer=self._optimizer,
            step=self._state["step"],
            dataset=dataset,
            strategy=self._strategy,
            clip_norm=self._settings.clip_norm,
            pieces=plan.pieces,
            xla=uses_xla(self._settings),
            teaching=self._teaching,
        )

    def describe(self) -> str:
        """The size of the run in a line."""
        plan = self.plan
        sizes = ", ".join(f"{name} {len(store):,}" for name, store in plan.stores.items())
        among = f" on {plan.replicas} replicas" if plan.replicas > 1 else ""
        return (
            f"{len(plan.stores)} tasks, {sizes} training examples; {self._settings.epochs} epochs, "
            f"{plan.total_steps} steps of {self._experiment.batch.rows} rows of "
            f"{plan.shape.length} slots{among}"
        )

    def run(self, stop: Sequence[signal.Signals] = ()) -> None:
        """Trains to the end.

        Args:
            stop: Signals that came; not empty means to save and leave after the loop under way.

        Raises:
            UserError: The disk is full, or the loss is no longer a number.
            Interrupted: SIGTERM or Ctrl-C came, and the state was saved.
        """
        plan, settings, strategy = self.plan, self._settings, self._strategy
        if self._is_new:
            with _disk_errors(self._directory.path):
                self._begin()
        first = self._get("step")
        shape = evaluation_shape(self._experiment, strategy)
        self._runner = LogitsRunner(self.model, shape, strategy)
        self._log = RunLog(self._directory, plan.total_steps, first, self._workers.is_chief)
        self._describe(first)
        self._controller = self._new_controller()
        with self._log.progress, _disk_errors(self._directory.path):
            while (epoch := self._get("epochs_evaluated")) < settings.epochs:
                step, end_of_epoch = self._get("step"), int(plan.epoch_ends[epoch])
                # The workers leave together, whichever of them the signal came to.
                if came := max(self._workers.gather(stop[0] if stop else 0)):
                    self._save()
                    saved = f"saved at step {step} of {plan.total_steps} in {self._directory.path}"
                    raise Interrupted(signal.Signals(came), saved)
                if step == end_of_epoch:
                    self._end_epoch(epoch)
                else:
                    self._train_loop(step, min(step + settings.steps_per_loop, end_of_epoch))

    def _new_controller(self) -> orbit.Controller:
        is_chief = self._workers.is_chief
        return orbit.Controller(
            trainer=self.trainer(),
            strategy=self._strategy,
            global_step=self._state["step"],
            steps_per_loop=self._settings.steps_per_loop,
            summary_dir=str(self._directory.events) if is_chief else None,
            train_actions=[self._log_loop],
        )

    def _describe(self, first: int) -> None:
        show = self._log.progress.print
        show(self.describe())
        if self._get("epochs_evaluated") == self._settings.epochs:
            show(f"{self._directory.path} is trained already")
        elif first:
            show(f"going on from step {first}")

    def _train_loop(self, step: int, end: int) -> None:
        self._loop_start = time.monotonic()
        with contextlib.redirect_stdout(None):  # Orbit prints a line a loop; the bar is ours.
            self._controller.train(end, checkpoint_at_completion=False)
        if self._average:
            self._average.update(end, end - step)
        every = self._settings.checkpoint_every_steps
        if end // every > step // every:
            self._save()

    def _log_loop(self, output: dict[str, Any]) -> None:
        """Logs one loop of steps; called by the controller, which adds `output` to TensorBoard."""
        step = self._get("step")
        self._log.loop(
            output,
            step=step,
            epoch=self.plan.epoch_of(step - 1) + 1,
            slots=self._experiment.batch.rows * self.plan.shape.length,
            learning_rate=float(self._schedule(step - 1)),
            seconds=time.monotonic() - self._loop_start,
        )

    def _end_epoch(self, epoch: int) -> None:
        """Evaluates, logs, and saves the best and the last checkpoint, in this order.

        Killed anywhere in between, the next process does it again from the same state.
        """
        with self._average.in_place() if self._average else contextlib.nullcontext():
            self._evaluate(epoch)
        self._state["epochs_evaluated"].assign(epoch + 1)
        if self._teaching is not None and self._teaching.end_epoch():
            self._controller = self._new_controller()  # Its batches and its step are others now.
        self._save()

    def _evaluate(self, epoch: int) -> None:
        """Evaluates the dev splits, if it is time, and saves the model if it is the best."""
        step = self._get("step")
        evaluates = (epoch + 1) % self._settings.evaluate_every_epochs == 0
        evaluates |= epoch + 1 == self._settings.epochs
        # Without dev splits the last epoch is the best.
        score = -math.inf if self._data.dev else float(epoch)
        if self._data.dev and evaluates:
            result = evaluate(self._runner, self._data.dev)
            score = result.mean
            self._log.epoch(result, step=step, epoch=epoch + 1)
            if self._workers.is_chief:
                summaries = self._controller.summary_manager
                summaries.write_summaries({"dev": result.metrics | {"mean": result.mean}})
                summaries.flush()
        if score > self._state["best_score"].numpy():
            self._state["best_score"].assign(score)
            self._checkpoints.save_best(step)
            if self._data.dev:
                self._log.predictions(self._data.dev, result)


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

"""A training run: all that it holds in memory."""

import json
import shutil

import tensorflow as tf
from absl import logging

from mtdnn_tf.data.pipeline import as_dataset, replicas_of
from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.data.splits import open_run_data
from mtdnn_tf.distillation.teaching import TEACHERS_FILE, Teaching
from mtdnn_tf.distribution.workers import Workers
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.files import write_atomically
from mtdnn_tf.modeling import build_mtdnn, encoder_of
from mtdnn_tf.pretrained import load_config
from mtdnn_tf.runs.checkpoints import Checkpoints
from mtdnn_tf.runs.directory import RunDirectory, fixed_settings
from mtdnn_tf.tokenizers.saved import load_tokenizer
from mtdnn_tf.training.initial_weights import find_start
from mtdnn_tf.training.optimizer import build_optimizer, learning_rate_schedule
from mtdnn_tf.training.setup import (
    counter,
    give_replicas_own_dropout,
    uses_xla,
)
from mtdnn_tf.training.step import Trainer
from mtdnn_tf.training.weight_average import WeightAverage

NO_SCORE = -1e9  # Of a run without a best checkpoint.


class TrainingRun:
    """Everything that a run holds in memory, restored from the last checkpoint if there is one.

    To be made and used where the process is `reproducible`.

    Args:
        experiment: What to train.
        directory: Where; locked by the caller.
        strategy: The distribution strategy; by default the current one.

    Attributes:
        experiment: As given, with the pooling that `auto` came to.
        directory: As given.
        strategy: As given, or the current one.
        is_new: Whether there was no run in the directory.
        workers: All processes of the run.
        data: The examples of all splits.
        plan: All batches of the run.
        model: The Keras model.
        schedule: The learning rate of each update.
        average: The moving average of the weights, if there is one.
        state: What else a checkpoint holds: `step`, `epochs_evaluated`, `best_score`.
        checkpoints: Where model, optimizer, average and state are saved.
        teaching: The lessons of the teachers, if there are any.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: RunDirectory,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.directory = directory
        self.strategy = strategy or tf.distribute.get_strategy()
        self.workers = workers = Workers(self.strategy)
        self._settings = settings = experiment.training
        self.is_new = not self._is_there(experiment)
        if self.is_new:
            if workers.is_chief:
                directory.make_room()
            start = find_start(experiment)
            config, self._tokenizer = start.config, start.tokenizer
            self._start = start
            pooling = start.pooling
        else:
            directory.check_same(experiment)
            config = load_config(directory.encoder)
            self._tokenizer = load_tokenizer(directory.path)
            pooling = directory.read_experiment().encoder.settled_pooling
        self.experiment = experiment = experiment.with_pooling(pooling)
        self.data = workers.chief_first(
            lambda: open_run_data(
                experiment.heads,
                experiment.data,
                self._tokenizer,
                experiment.distillation.teachers,
            )
        )
        workers.check_same(json.dumps(self.data.summary()), "the examples")
        self.plan = TrainingPlan(
            experiment, self.data.all_train(), self.strategy.num_replicas_in_sync
        )
        with self.strategy.scope():
            self.model = build_mtdnn(
                config,
                experiment.heads,
                pooling=pooling,
                dtype=settings.precision,
                recompute=settings.recompute,
                windows=experiment.data.windows > 1,
            )
            self.schedule = learning_rate_schedule(settings, self.plan.total_steps)
            self._optimizer = build_optimizer(settings, self.schedule)
            self._optimizer.build(self.model.trainable_variables)
            self.average = None
            if settings.average_decay is not None:
                self.average = WeightAverage(self.model, settings.average_decay)
            self.state = {
                "step": counter(tf.int64, 0),
                "epochs_evaluated": counter(tf.int64, 0),
                "best_score": counter(tf.float64, NO_SCORE),
            }
        self.checkpoints = Checkpoints(
            directory.checkpoints,
            self.model,
            self._optimizer,
            self.state,
            settings.keep_checkpoints,
            workers.is_chief,
            self.average.variables if self.average else None,
        )
        if self.is_new:
            for note in start.notes:
                logging.info("%s", note)
            logging.info("%s", start.fill(self.model))
            if self.average:
                self.average.start()
        else:
            self._resume()
        workers.check_same(json.dumps(config.to_hf_dict()), "the encoder's settings")
        workers.check_same_weights(self.model)
        give_replicas_own_dropout(self.strategy, self.model)
        if self.is_new and workers.is_chief:
            licences = [f"{directory.encoder.name}/{path.name}" for path in start.licences]
            directory.begin([TEACHERS_FILE, *licences])
        self.teaching: Teaching | None = None
        if experiment.distillation.teachers:
            self.teaching = Teaching(
                experiment,
                directory,
                self.model,
                self._tokenizer,
                self.data,
                self.strategy,
                self.plan.total_steps,
            )

    def _is_there(self, experiment: Experiment) -> bool:
        """Whether the directory holds a run; no worker goes on before all have looked.

        Raises:
            UserError: The workers do not share the directory, or were not given the same settings.
        """
        settings = json.dumps(fixed_settings(experiment), sort_keys=True)
        self.workers.check_same(settings, "the settings")
        there = self.workers.gather(self.directory.exists)
        if len(set(there)) > 1:
            raise UserError(
                f"{self.directory.path} holds a run on some workers and none on others; "
                "the workdir must be one folder that all of them share"
            )
        return bool(there[0])

    def begin(self) -> None:
        """Writes a new run's small files and first checkpoint; the config last: then it is a run."""
        directory = self.directory
        if self.workers.is_chief:
            config = encoder_of(self.model).config
            encoder_file = directory.encoder / "config.json"
            write_atomically(encoder_file, json.dumps(config.to_hf_dict(), indent=2))
            if source := self._start.source():
                write_atomically(directory.source_file, json.dumps(source, indent=2) + "\n")
            for path in self._start.licences:
                shutil.copyfile(path, directory.encoder / path.name)
            self._tokenizer.save(directory.path)
            write_atomically(directory.data_file, json.dumps(self.data.summary(), indent=2))
            directory.write_hashes()
        self.save()
        if self.workers.is_chief:
            directory.write_experiment(self.experiment)

    def _resume(self) -> None:
        directory = self.directory
        if self.workers.is_chief:
            directory.remove_partial_files()
        before = directory.read_json(directory.data_file)
        now = self.data.summary()
        for name in {**before, **now}:
            if before.get(name, {}).get("key") != now.get(name, {}).get("key"):
                raise UserError(
                    f"the examples of {name} are not those that the run in {directory.path} began "
                    "with; choose another --workdir"
                )
        if not self.checkpoints.restore():
            raise UserError(
                f"{directory.path} has a config.yaml but no checkpoint; choose another --workdir"
            )
        if self.state["best_score"].numpy() > NO_SCORE and not self.checkpoints.has_best():
            logging.warning(
                "%s has lost its best checkpoint: only epochs still to come can take its place",
                directory.path,
            )
            self.state["best_score"].assign(NO_SCORE)
        step, epochs = self.count("step"), self.count("epochs_evaluated")
        self.workers.check_same(f"{step} {epochs}", "the steps of the checkpoint")
        if self.workers.is_chief:
            directory.metrics.rewind(step, epochs)

    def count(self, name: str) -> int:
        """The value of `step` or `epochs_evaluated`."""
        return int(self.state[name].numpy())

    def save(self) -> None:
        """Writes a checkpoint; no worker goes on before it is there."""
        # Steps and evaluations: the sum grows with every change of the state.
        self.checkpoints.save(self.count("step") + self.count("epochs_evaluated"))
        self.workers.wait()  # No worker leaves while the chief writes.

    def trainer(self) -> Trainer:
        """A trainer that goes on from the restored step."""
        plan, first = self.plan, self.count("step")
        dataset = self.strategy.distribute_datasets_from_function(
            lambda context: as_dataset(
                lambda: plan.batches(first, replicas_of(context)), plan.shape, plan.pieces
            )
        )
        return Trainer(
            model=self.model,
            tasks=self.experiment.heads,
            optimizer=self._optimizer,
            step=self.state["step"],
            dataset=dataset,
            strategy=self.strategy,
            clip_norm=self._settings.clip_norm,
            pieces=plan.pieces,
            xla=uses_xla(self._settings),
            teaching=self.teaching,
        )

"""The teachers' part in a training run: live, or from the cache."""

import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mtdnn_tf.data.splits import RunData
from mtdnn_tf.distillation.cached_teachers import CachedTeachers, cache_dir_of
from mtdnn_tf.distillation.labelling import check_teachers, label
from mtdnn_tf.distillation.soft_targets import teacher_fingerprint
from mtdnn_tf.distillation.student import DistillationModel, StoredLogits
from mtdnn_tf.distribution.signals import Stop
from mtdnn_tf.distribution.workers import Workers
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.evaluator import LogitsRunner, evaluation_shape
from mtdnn_tf.evaluation.temperatures import fit_temperature
from mtdnn_tf.experiment.distillation import DistillationSettings
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.files import write_atomically
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.ensemble import (
    Member,
    build_ensemble,
    check_same_tokens,
    load_member,
)
from mtdnn_tf.tokenizers.tokenizer import Tokenizer

TARGET = "teacher/"  # What the names of the teachers' logits in a batch begin with.
TEACHERS_FILE = "teachers.json"


def check_same_teachers(directory: RunDirectory, settings: DistillationSettings) -> None:
    """Notes the state of a student's teachers, or checks that it is the one that was noted.

    Raises:
        UserError: A teacher is not there, or was trained on since.
    """
    path = directory.path / TEACHERS_FILE
    now = {run: teacher_fingerprint(run, settings.checkpoint) for run in settings.runs}
    if not path.exists():
        write_atomically(path, json.dumps(now, indent=2) + "\n")
        return
    there = directory.read_json(path)
    if changed := [run for run in now if there.get(run) != now[run]]:
        raise UserError(
            f"{changed[0]} is not in the state in which it began to teach {directory.path}; "
            "choose another --workdir for the student"
        )


class Teaching:
    """The soft targets of a run's batches.

    With `targets: live` the teachers are part of it. Else the cache is: with `cached` what it has is
    read at once, with `auto` the teachers have to label first what it lacks (see `labels_first`).

    Args:
        experiment: The run's; some task has teachers.
        directory: The run directory.
        student: The model that is trained.
        tokenizer: The student's.
        data: The run's examples.
        strategy: The distribution strategy.
        total_steps: Steps of the whole run.

    Attributes:
        labels_first: Whether `label` and then `read_cache` have to be called before the first step.
        cache_dir: Where the cache is.

    Raises:
        UserError: A teacher is missing, of another task, or in another state than it was when the run
            began; a live one cannot read the student's batches; or with `cached` soft targets are
            missing.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: RunDirectory,
        student: keras.Model,
        tokenizer: Tokenizer,
        data: RunData,
        strategy: tf.distribute.Strategy,
        total_steps: int,
    ) -> None:
        self._experiment, self._settings = experiment, experiment.distillation
        self._strategy, self._workers = strategy, Workers(strategy)
        self._student, self._tokenizer = student, tokenizer
        self._data, self._total_steps = data, total_steps
        self._heads = experiment.heads
        self._tasks = {t.name: t for t in experiment.heads if t.name in self._settings.teachers}
        self.labels_first = self._settings.targets == "auto"
        self.cache_dir = cache_dir_of(experiment, directory)
        if self._workers.is_chief:
            check_same_teachers(directory, self._settings)
        if self._settings.targets == "live":
            self._use(self._load_ensemble())
            return
        check_teachers(experiment)
        self._cached = CachedTeachers(experiment, self.cache_dir, tokenizer, data)
        if not self.labels_first:
            self.read_cache()

    def label(self, stop: Stop = ()) -> int:
        """Labels what the cache lacks. Of several workers the chief does, for which the others wait.

        Args:
            stop: See `mtdnn_tf.distillation.labelling.label`.

        Returns:
            How many examples were labelled by this process.

        Raises:
            UserError: A file is bad, or the disk is full.
            Interrupted: It was told to stop; what was labelled is in the cache.
        """
        if not self._workers.is_chief:
            return 0
        # The chief alone takes no step of a strategy that the other workers belong to.
        alone = self._strategy if self._workers.count == 1 else tf.distribute.get_strategy()
        return label(self._experiment, self.cache_dir, alone, stop)

    def read_cache(self) -> None:
        """Takes what the cache has.

        Raises:
            UserError: Some soft targets are missing.
        """
        self._use(StoredLogits(self._cached.logits()))

    def begin_unlabelled(self) -> None:
        """Takes 0 for all that the teachers would say, to try some steps."""
        stores = self._data.all_train()
        sizes = {name: [len(stores[name]), t.output_size] for name, t in self._tasks.items()}
        self._use(StoredLogits({name: np.zeros(size, np.float32) for name, size in sizes.items()}))

    def _load_ensemble(self) -> keras.Model:
        runs = self._settings.runs
        members: list[Member] = []
        with self._strategy.scope():
            for run in runs:
                member, loaded = load_member(run, self._settings.checkpoint)
                check_same_tokens(run, loaded.tokenizer, "the student", self._tokenizer)
                members.append(member)
            positions = {
                name: [runs.index(run) for run in of_task]
                for name, of_task in self._settings.teachers.items()
            }
            return build_ensemble(
                members,
                self._tasks,
                positions,
                {name: self._settings.of_task(name).temperature for name in self._tasks},
                self._settings.logits_taught,
                self._calibration(members, positions) if self._settings.calibrated else None,
            )

    def _calibration(
        self, members: list[Member], positions: dict[str, list[int]]
    ) -> dict[str, list[float]]:
        """Task name to the temperature of each of its teachers, fitted on the dev splits."""
        shape = evaluation_shape(self._experiment, self._strategy)
        temperatures: dict[str, list[float]] = {
            name: [1.0] * len(of_task) for name, of_task in positions.items()
        }
        for number, member in enumerate(members):
            taught = {name: self._tasks[name] for name, of in positions.items() if number in of}
            sources = [
                (task, store)
                for task, _, store in self._data.dev
                if task.name in taught and task.kind.can_calibrate(task)
            ]
            if not sources:
                continue
            alone = build_ensemble(
                [member], taught, {name: [0] for name in taught}, of_logits=taught
            )
            logits = LogitsRunner(alone, shape, self._strategy).run(sources)
            for name in taught:
                splits = [
                    (store, output)
                    for (task, store), output in zip(sources, logits, strict=True)
                    if task.name == name
                ]
                if splits:
                    place = positions[name].index(number)
                    temperatures[name][place] = fit_temperature(taught[name], splits)
        return temperatures

    def _use(self, teacher: keras.layers.Layer) -> None:
        self._model = DistillationModel(self._student, teacher, self._heads, self._settings)

    def taught(self, batch: dict[str, Any], pieces: int) -> dict[str, Any]:
        """Adds the teachers' logits to a distributed batch.

        Args:
            batch: Name to the tensors of every replica.
            pieces: More than 1: the tensors are stacks of so many pieces.
        """

        def on_replica(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            if pieces == 1:
                return self._model.targets_of(batch)
            specs = {n: tf.TensorSpec([None, t.output_size]) for n, t in self._tasks.items()}
            return tf.map_fn(
                self._model.targets_of, batch, parallel_iterations=1, fn_output_signature=specs
            )

        targets = self._strategy.run(on_replica, args=(batch,))
        return batch | {TARGET + name: logits for name, logits in targets.items()}

    def losses_of(
        self, batch: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor], step: tf.Variable
    ) -> tf.Tensor:
        """The loss of each example of a batch from `taught`, on one replica."""
        targets = {name: batch[TARGET + name] for name in self._tasks}
        progress = tf.cast(step, tf.float32) / max(self._total_steps - 1, 1)
        return self._model.losses_of(batch, logits, targets, progress)

"""The teachers' part in a training run: live, from the cache, or stored on the way."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mtdnn_tf.data.ranges import ranges
from mtdnn_tf.data.splits import RunData
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.distillation.cached_teachers import CachedTeachers
from mtdnn_tf.distillation.soft_targets import PART, teacher_fingerprint
from mtdnn_tf.distillation.student import DistillationModel, StoredLogits
from mtdnn_tf.distribution.workers import Workers
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.evaluator import LogitsRunner, evaluation_shape
from mtdnn_tf.evaluation.temperatures import fit_temperature
from mtdnn_tf.experiment.distillation import DistillationSettings
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.files import replaced, write_atomically
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.ensemble import (
    Member,
    build_ensemble,
    check_same_tokens,
    load_member,
)
from mtdnn_tf.tokenizers.tokenizer import Tokenizer

TARGET = "teacher/"  # What the names of the teachers' logits in a batch begin with.
STORED_FILE, TEACHERS_FILE = "soft_targets.npz", "teachers.json"


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

    With `targets: auto` the first epoch runs the teachers and notes what they say; at its end the
    numbers take their place. What is noted is saved before each checkpoint, so that a resumed run
    sees the same numbers as an unbroken one.

    Args:
        experiment: The run's; some task has teachers.
        directory: The run directory.
        student: The model that is trained.
        tokenizer: The student's.
        data: The run's examples.
        strategy: The distribution strategy.
        total_steps: Steps of the whole run.
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
        self._directory = directory
        self._heads = experiment.heads
        self._tasks = {t.name: t for t in experiment.heads if t.name in self._settings.teachers}
        self._file = directory.path / STORED_FILE
        self._noted: dict[str, np.ndarray] = {}
        self._ensemble: keras.Model | None = None

    def begin(self, epochs_done: int) -> None:
        """Prepares for the next step; to be called when the state of the run is restored.

        Args:
            epochs_done: How many epochs have ended.

        Raises:
            UserError: A teacher is missing or of another task, or cannot read the student's batches;
                the cache lacks its soft targets; or what an earlier process noted cannot be read.
        """
        if (self._settings.targets != "auto" or not epochs_done) and self._workers.is_chief:
            check_same_teachers(self._directory, self._settings)
        if self._settings.targets == "cached":
            cached = CachedTeachers(self._experiment, self._directory, self._tokenizer, self._data)
            self._use(StoredLogits(cached.logits()))
        elif self._settings.targets == "auto" and epochs_done:
            if self._workers.is_chief and not self._file.exists():
                raise UserError(
                    f"{self._file} is gone, where the soft targets of the first epoch were; "
                    "begin again in another --workdir"
                )
            self._use(StoredLogits(self._read_noted()))
        else:
            self._ensemble = self._load_ensemble()
            self._use(self._ensemble)
            if self._settings.targets == "auto" and self._experiment.training.epochs > 1:
                self._noted = self._read_noted()

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

    @property
    def notes(self) -> bool:
        """Whether what the teachers say in the steps under way is to be kept."""
        return bool(self._noted)

    def _read_noted(self) -> dict[str, np.ndarray]:
        """What an earlier process of this run noted; not a number where nothing was."""
        noted = {
            name: np.full([len(store), self._tasks[name].output_size], np.nan, np.float32)
            for name, store in self._taught_stores().items()
        }
        if self._workers.is_chief and self._file.exists():
            try:
                with np.load(self._file, allow_pickle=False) as file:
                    found = {name: file[TARGET + name] for name in noted}
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise UserError(f"cannot read {self._file}: {error}") from error
            for name, values in found.items():
                if values.shape != noted[name].shape:
                    raise UserError(
                        f"{self._file} has {len(values):,} soft targets of {name}; expected "
                        f"{len(noted[name]):,}"
                    )
            noted = found
        return {name: self._gathered(values) for name, values in noted.items()}

    def _taught_stores(self) -> dict[str, TokenStore]:
        stores = self._data.all_train()
        return {name: stores[name] for name in self._tasks}

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
        if self.notes:
            per_replica = self._strategy.experimental_local_results
            tensors = [batch["task"], batch["index"], *(targets[name] for name in self._tasks)]
            for on_one in zip(*map(per_replica, tensors), strict=True):
                tf.numpy_function(self._note, on_one, [])
        return batch | {TARGET + name: logits for name, logits in targets.items()}

    def _note(self, task: np.ndarray, index: np.ndarray, *logits: np.ndarray) -> None:
        positions = {head.name: position for position, head in enumerate(self._heads)}
        for name, of_task in zip(self._tasks, logits, strict=True):
            here = (task == positions[name]) & (index >= 0)
            self._noted[name][index[here]] = of_task[here]

    def losses_of(
        self, batch: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor], step: tf.Variable
    ) -> tf.Tensor:
        """The loss of each example of a batch from `taught`, on one replica."""
        targets = {name: batch[TARGET + name] for name in self._tasks}
        progress = tf.cast(step, tf.float32) / max(self._total_steps - 1, 1)
        return self._model.losses_of(batch, logits, targets, progress)

    def save(self) -> None:
        """Saves what was noted; to be called before each checkpoint.

        Raises:
            UserError: The disk is full.
        """
        if not self.notes:
            return
        whole = {TARGET + name: self._gathered(values) for name, values in self._noted.items()}
        if not self._workers.is_chief:
            return
        try:
            with replaced(self._file) as partial, partial.open("wb") as file:
                np.savez(file, **whole)  # type: ignore[arg-type]
        except OSError as error:
            raise UserError(f"cannot write {self._file}: {error.strerror}") from error

    def _gathered(self, values: np.ndarray) -> np.ndarray:
        """All workers' numbers; the chief's, which may be from the file, go first."""
        known = (~np.isnan(values)).astype(np.float32)
        is_chief = self._workers.is_chief
        of_chief = self._workers.sum(known if is_chief else np.zeros_like(known))
        if not is_chief:
            known *= 1 - of_chief
        times = self._workers.sum(known)
        total = self._workers.sum(np.nan_to_num(values) * known)
        return np.where(times > 0, total / np.maximum(times, 1), np.nan).astype(np.float32)

    def label_unseen(self, items: Mapping[str, np.ndarray]) -> Iterator[str]:
        """Labels what later epochs see and the first did not, a part at a time.

        To be called before `end_epoch`; after each part the state may be saved.

        Args:
            items: Task name to the items (see `TokenStore.item_offsets`) of later epochs.

        Yields:
            How far it has come, in words.
        """
        if self._ensemble is None or not self.notes:
            return
        self._noted = {name: self._gathered(values) for name, values in self._noted.items()}
        shape = evaluation_shape(self._experiment, self._strategy)
        runner = LogitsRunner(self._ensemble, shape, self._strategy)
        for name, store in self._taught_stores().items():
            first = store.item_offsets[items[name]]
            unseen = items[name][np.isnan(self._noted[name][first, 0])]
            for start in range(0, len(unseen), PART):
                now = unseen[start : start + PART]
                examples = ranges(store.item_offsets[now], np.diff(store.item_offsets)[now])
                (logits,) = runner.run([(self._tasks[name], store.subset(now))])
                self._noted[name][examples] = logits
                yield f"teachers of {name}: labelled {start + len(now):,} of {len(unseen):,}"

    def end_epoch(self) -> bool:
        """Puts the noted numbers in the teachers' place; whether anything changed."""
        if not self.notes:
            return False
        self.save()
        self._use(StoredLogits(self._noted))
        self._noted, self._ensemble = {}, None
        return True

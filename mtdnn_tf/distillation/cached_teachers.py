"""The teachers of a run as the cache of soft targets has them."""

from pathlib import Path

import numpy as np

from mtdnn_tf.data.splits import RunData, fold_numbers, open_split
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.distillation.soft_targets import SoftTargets, positions_of, teacher_fingerprint
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.averaged_logits import averaged_logits
from mtdnn_tf.evaluation.temperatures import fit_temperature
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.spec import UNLABELLED, TaskSpec
from mtdnn_tf.tokenizers.tokenizer import Tokenizer


def cache_dir_of(experiment: Experiment, directory: RunDirectory) -> Path:
    """Where the cache of soft targets of a run is."""
    return Path(experiment.distillation.cache_dir or directory.path / "soft_targets")


class CachedTeachers:
    """What the teachers of a student said when they labelled its examples.

    Args:
        experiment: The student's.
        cache_dir: Folder of the cache.
        tokenizer: The student's.
        data: The student's examples.

    Raises:
        UserError: A teacher is not there, or with `cross_fitted` an example has no teacher.
    """

    def __init__(
        self,
        experiment: Experiment,
        cache_dir: Path,
        tokenizer: Tokenizer,
        data: RunData,
    ) -> None:
        self._experiment, self._settings = experiment, experiment.distillation
        self._tokenizer, self._data = tokenizer, data
        self._cache_dir = cache_dir
        self._fingerprints = {
            run: teacher_fingerprint(run, self._settings.checkpoint) for run in self._settings.runs
        }
        self._shares = {
            task.name: self._shares_of(task) if self._settings.cross_fitted else None
            for task in self._taught
        }

    @property
    def _taught(self) -> list[TaskSpec]:
        return [t for t in self._experiment.heads if t.name in self._settings.teachers]

    def logits(self) -> dict[str, np.ndarray]:
        """The averaged logits of every task's teachers.

        Returns:
            Task name to [examples, outputs] float32, in the order of `RunData.all_train`.

        Raises:
            UserError: Some are not in the cache.
        """
        return {task.name: self._of_task(task) for task in self._taught}

    def _of_task(self, task: TaskSpec) -> np.ndarray:
        runs = self._settings.teachers[task.name]
        splits = {"train": self._data.train[task.name]}
        if task.name in self._data.unlabelled:
            splits[UNLABELLED] = self._data.unlabelled[task.name]
        calibration = None
        if self._settings.calibrated and task.kind.can_calibrate(task):
            calibration = [self._temperature(task, run) for run in runs]
        return averaged_logits(
            task,
            [
                np.concatenate([self._read(task, run, *split) for split in splits.items()])
                for run in runs
            ],
            splits["train"].first_of_query,
            self._settings.of_task(task.name).temperature,
            weights=self._shares[task.name],
            of_logits=task.name in self._settings.logits_taught,
            calibration=calibration,
        ).numpy()

    def _read(self, task: TaskSpec, run: str, split: str, store: TokenStore) -> np.ndarray:
        targets = SoftTargets(
            self._cache_dir, run, self._fingerprints[run], task, split, store.source
        )
        return targets.read(np.asarray(store.uids))

    def _temperature(self, task: TaskSpec, run: str) -> float:
        """The temperature of a teacher, fitted on the task's dev splits."""
        splits = [
            (store, self._read(task, run, split, store))
            for of_split, split, store in self._data.dev
            if of_split.name == task.name
        ]
        return fit_temperature(task, splits) if splits else 1.0

    def _shares_of(self, task: TaskSpec) -> list[np.ndarray]:
        """For each teacher 1 for the examples whose label it did not see, else 0."""
        whole = open_split(task, "train", self._experiment.data, self._tokenizer)
        uids = np.asarray(self._data.train[task.name].uids)
        here = positions_of(uids, np.asarray(whole.uids))
        shares = [
            held_out(run, task.name, whole)[here] for run in self._settings.teachers[task.name]
        ]
        seen_by_all = ~np.any(shares, axis=0)
        if seen_by_all.any():
            first = str(uids[seen_by_all][0])
            raise UserError(
                f"distillation.cross_fitted: {seen_by_all.sum():,} of {len(uids):,} examples of "
                f"{task.name}/train, the first of them {first!r}, were in the training "
                f"data of every teacher; add teachers whose data.folds.{task.name} leave them out"
            )
        more = np.ones(len(self._data.unlabelled.get(task.name, ())), np.float32)
        return [np.concatenate([share.astype(np.float32), more]) for share in shares]


def held_out(run: str, task: str, whole: TokenStore) -> np.ndarray:
    """Which examples of a task a run, and the runs that it started from, did not train on.

    Args:
        run: The run directory.
        task: Name of the task.
        whole: The whole train split.

    Returns:
        [examples] bool.

    Raises:
        UserError: A run is not there, or had other rows, whose folds are others.
    """
    unseen = np.ones(len(whole), bool)
    ancestor: str | None = run
    while ancestor is not None:
        experiment = RunDirectory(ancestor).read_experiment()
        if task in experiment.tasks:
            fold = experiment.data.folds.get(task)
            left_out = np.zeros(len(whole), bool)
            if fold is not None:
                _check_same_rows(ancestor, task, whole)
                items = fold_numbers(len(whole.item_offsets) - 1, fold) == fold.without
                left_out = np.repeat(items, np.diff(whole.item_offsets))
            unseen &= left_out
        ancestor = experiment.init.run
    return unseen


def _check_same_rows(run: str, task: str, whole: TokenStore) -> None:
    directory = RunDirectory(run)
    there = directory.read_json(directory.data_file)[f"{task}/train"].get("source")
    if there != whole.source:
        raise UserError(
            f"distillation.cross_fitted: {run} was trained on other rows of {task}/train than are there "
            "now, so which of them it did not see is not known; train it again"
        )

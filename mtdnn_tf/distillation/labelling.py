"""The cache of soft targets filled: each teacher labels the examples trained on once."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from mtdnn_tf.data.splits import open_dev, open_split, open_train
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.distillation.soft_targets import SoftTargets, teacher_fingerprint
from mtdnn_tf.distribution.signals import Stop, leave_if_told
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.evaluator import LogitsRunner, evaluation_shape
from mtdnn_tf.evaluation.progress import WorkProgress
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.ensemble import build_ensemble, label_columns, load_member
from mtdnn_tf.tasks.spec import UNLABELLED, TaskSpec
from mtdnn_tf.tokenizers.saved import load_tokenizer
from mtdnn_tf.tokenizers.tokenizer import Tokenizer


def label(
    experiment: Experiment, cache_dir: Path, strategy: tf.distribute.Strategy, stop: Stop = ()
) -> int:
    """Writes what every teacher says of every example to train on that is not in the cache yet.

    These are the examples that `data.folds` and `data.subsets` leave. A teacher reads the texts with its
    own tokenizer, so its vocabulary may be another than the student's. Its weights are loaded if some of
    its soft targets are missing. Killed, the same call goes on where it was.

    Args:
        experiment: The student's.
        cache_dir: Folder of the cache.
        strategy: The distribution strategy.
        stop: Signals that came; not empty means to leave after the part under way.

    Returns:
        How many examples were labelled, over all teachers and tasks.

    Raises:
        UserError: A teacher is missing or of another task, a file is bad, or the disk is full.
        Interrupted: It was told to stop; what was labelled is in the cache.
    """
    settings = experiment.distillation
    if not settings.teachers:
        raise UserError("distillation.teachers names no teacher: there is nothing to label with")
    check_teachers(experiment)
    total = 0
    for run in settings.runs:
        fingerprint = teacher_fingerprint(run, settings.checkpoint)
        tokenizer = load_tokenizer(RunDirectory(run).path)
        # Loaded when it is first asked.
        runner = cache(partial(_load_runner, experiment, run, strategy))
        for task in _taught(experiment, run).values():
            for split, store in _stores(experiment, task, tokenizer).items():
                used = open_train(task, experiment.data, tokenizer) if split == "train" else store
                targets = SoftTargets(cache_dir, run, fingerprint, task, split, store.source)
                items = targets.missing(store, np.asarray(used.uids))
                labelled, count = 0, int(np.diff(store.item_offsets)[items].sum())
                where = f"{run}: {task.name}/{split}"
                with WorkProgress(f"{where}: labelled", count) as progress:
                    leave_if_told(stop, f"{total:,} examples labelled in {cache_dir}")
                    for more in targets.write(store, items, partial(_logits, runner, task)):
                        labelled, total = labelled + more, total + more
                        progress.advance(more)
                        leave_if_told(stop, f"{total:,} examples labelled in {cache_dir}")
                logging.info(
                    "%s: %d of %d examples labelled now, in %s",
                    where,
                    labelled,
                    len(used),
                    targets.folder,
                )
    return total


def check_teachers(experiment: Experiment) -> None:
    """Checks that every teacher has the tasks that it teaches, without loading its weights.

    Raises:
        UserError: One is missing, lacks a task, or has other labels.
    """
    for run in experiment.distillation.runs:
        there = {task.name: task for task in RunDirectory(run).read_experiment().heads}
        for task in _taught(experiment, run).values():
            label_columns(task, there, run)


def _stores(experiment: Experiment, task: TaskSpec, tokenizer: Tokenizer) -> dict[str, TokenStore]:
    """The splits whose soft targets a student needs."""
    splits = ["train", *([UNLABELLED] if UNLABELLED in task.splits else [])]
    stores = {split: open_split(task, split, experiment.data, tokenizer) for split in splits}
    if experiment.distillation.calibrated and task.kind.can_calibrate(task):
        dev = open_dev([task], experiment.data, tokenizer)
        stores |= {split: store for _, split, store in dev}
    return stores


def _taught(experiment: Experiment, run: str) -> dict[str, TaskSpec]:
    """The tasks that a run teaches, by name."""
    teachers = experiment.distillation.teachers
    return {task.name: task for task in experiment.heads if run in teachers.get(task.name, ())}


def _logits(runner: Callable[[], LogitsRunner], task: TaskSpec, store: TokenStore) -> np.ndarray:
    return runner().run([(task, store)])[0]


def _load_runner(
    experiment: Experiment, run: str, strategy: tf.distribute.Strategy
) -> LogitsRunner:
    logging.info("loading the teacher %s, which labels examples for the student", run)
    taught = _taught(experiment, run)
    with strategy.scope():
        member, loaded = load_member(run, experiment.distillation.checkpoint)
        model = build_ensemble([member], taught, {name: [0] for name in taught}, of_logits=taught)
    return LogitsRunner(model, evaluation_shape(loaded.experiment), strategy)

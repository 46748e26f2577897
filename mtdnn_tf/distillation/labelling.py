"""The cache of soft targets filled: each teacher labels the examples trained on once."""

from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from mtdnn_tf.data.splits import open_split, open_train
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.distillation.soft_targets import SoftTargets, teacher_fingerprint
from mtdnn_tf.distribution.signals import Stop, leave_if_told
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.evaluator import LogitsRunner, evaluation_shape
from mtdnn_tf.evaluation.progress import WorkProgress
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.runs.ensemble import build_ensemble, load_member
from mtdnn_tf.tasks.spec import UNLABELLED, TaskSpec


def label(
    experiment: Experiment, cache_dir: Path, strategy: tf.distribute.Strategy, stop: Stop = ()
) -> int:
    """Writes what every teacher says of every example to train on that is not in the cache yet.

    These are the examples that `data.folds` and `data.subsets` leave. A teacher reads the texts with its
    own tokenizer, so its vocabulary may be another than the student's. Killed, the same call goes on
    where it was.

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
    tasks = {task.name: task for task in experiment.heads}
    total = 0
    for run in settings.runs:
        fingerprint = teacher_fingerprint(run, settings.checkpoint)
        taught = {n: tasks[n] for n, runs in settings.teachers.items() if run in runs}
        with strategy.scope():
            member, loaded = load_member(run, settings.checkpoint)
            model = build_ensemble(
                [member], taught, {name: [0] for name in taught}, of_logits=taught
            )
        runner = LogitsRunner(model, evaluation_shape(loaded.experiment), strategy)
        for name, task in taught.items():
            for split in _splits(task, settings.calibrated):
                store = open_split(task, split, experiment.data, loaded.tokenizer)
                used = store
                if split == "train":
                    used = open_train(task, experiment.data, loaded.tokenizer)
                targets = SoftTargets(cache_dir, run, fingerprint, task, split, store.source)
                items = targets.missing(store, np.asarray(used.uids))
                labelled, count = 0, int(np.diff(store.item_offsets)[items].sum())
                where = f"{run}: {name}/{split}"
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


def _splits(task: TaskSpec, calibrated: bool) -> list[str]:
    """The splits whose soft targets a student needs."""
    dev = task.splits_like("dev") if calibrated and task.kind.can_calibrate(task) else ()
    return ["train", *([UNLABELLED] if UNLABELLED in task.splits else []), *dev]


def _logits(runner: LogitsRunner, task: TaskSpec, store: TokenStore) -> np.ndarray:
    return runner.run([(task, store)])[0]

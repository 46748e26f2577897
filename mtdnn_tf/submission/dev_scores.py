"""Scores of what would be submitted, on the splits whose labels are known."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtdnn_tf.data.sources import read_split, split_paths
from mtdnn_tf.errors import UserError
from mtdnn_tf.submission.answering import answer, check_task, class_or_score
from mtdnn_tf.submission.formats import GLUE_FILES, GlueFile
from mtdnn_tf.submission.models import Models
from mtdnn_tf.tasks import builtin_tasks
from mtdnn_tf.tasks.metrics import compute, task_score

DEV = {"test": "dev", "test_matched": "dev_matched", "test_mismatched": "dev_mismatched"}


@dataclass(frozen=True)
class DevScores:
    """What a submission would have on dev.

    Attributes:
        metrics: Task, split and metric to its value, a fraction.
        examples: Task and split to the number of examples.
        left_out: Files of a submission that GLUE scores and that could not be scored here.
    """

    metrics: dict[str, dict[str, dict[str, float]]]
    examples: dict[str, dict[str, int]]
    left_out: list[str]

    @property
    def average(self) -> float:
        """GLUE's: the mean over tasks of the mean of a task's metrics, MNLI's over both parts."""
        return float(np.mean([task_score(of_splits) for of_splits in self.metrics.values()]))


def score_dev(
    models: Models, glue_dir: Path, advance: Callable[[GlueFile, int], None]
) -> DevScores:
    """Answers the dev splits as the test splits would be, and scores what would be written.

    Args:
        models: Task to what answers it.
        glue_dir: The folder of GLUE's files.
        advance: Called with a file, whose `split` and `rows` are those of dev, and the number of
            its rows that are done.

    Raises:
        UserError: A file is bad, a model's task is another than GLUE's, or there is nothing to score.
    """
    scores = DevScores({}, {}, [])
    for of_one in GLUE_FILES:
        task = builtin_tasks()[of_one.task]
        if not task.has_head:
            continue  # The diagnostics: nobody but GLUE has their labels.
        split = DEV[of_one.split]
        (path,) = split_paths(task, split, glue_dir)
        if task.name not in models or not path.is_file():
            scores.left_out.append(of_one.name)
            continue
        check_task(of_one, models[task.name])
        rows = read_split(task, split, glue_dir)
        of_dev = replace(of_one, split=split, rows=len(rows))
        said: list[str] = []
        for batch in answer(of_one, models[task.name], rows.texts):
            said += batch
            advance(of_dev, len(said))
        predictions = np.array(list(map(class_or_score(of_one), said)), np.float64)
        labels = np.asarray(rows.labels)
        metrics: dict[str, float] = {
            name: compute(name, labels, predictions) for name in task.metrics
        }
        scores.metrics.setdefault(task.name, {})[split] = metrics
        scores.examples.setdefault(task.name, {})[split] = len(rows)
    if not scores.metrics:
        raise UserError(f"no task of the models has a dev file in {glue_dir}")
    return scores

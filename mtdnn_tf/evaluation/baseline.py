"""The best answer that ignores the text."""

import numpy as np

from mtdnn_tf.tasks.metrics import compute
from mtdnn_tf.tasks.spec import TaskSpec


def majority_baseline(
    task: TaskSpec,
    train_labels: np.ndarray,
    dev_labels: np.ndarray,
    groups: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the task's metrics of the best answer that ignores the text.

    That is the most frequent class of `train_labels` (of equals, the first), or their mean score;
    for ranking the same score for every candidate of `groups`, the queries of `dev_labels`.
    """
    if np.size(train_labels) == 0:
        raise ValueError("no train labels")
    predictions = np.full(np.shape(dev_labels), task.kind.majority(train_labels))
    return {metric: compute(metric, dev_labels, predictions, groups) for metric in task.metrics}

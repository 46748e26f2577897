"""A real number for a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mtdnn_tf.tasks.kinds.kind import Answered, Kind

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.axes import Axes

    from mtdnn_tf.tasks.spec import TaskSpec

FLOAT32_MAX = float(np.finfo(np.float32).max)


class Similarity(Kind):
    """Labels are stored as they are."""

    name = "similarity"
    texts = 2

    def check(self, task: TaskSpec) -> None:
        """See `Kind`."""
        if task.labels or task.label_values:
            raise ValueError("a similarity task has a score, no labels")
        if task.score_range is not None and not task.score_range[0] < task.score_range[1]:
            raise ValueError(f"score_range must be (lowest, highest), not {task.score_range}")

    def label_parser(self, task: TaskSpec) -> Callable[[str], float]:
        """See `Kind`."""
        low, high = task.score_range or (-FLOAT32_MAX, FLOAT32_MAX)
        expected = f"a number from {low:g} to {high:g}" if task.score_range else "a number"

        def score(text: str) -> float:
            try:
                value = math.nan if "_" in text else float(text)  # Python reads "1_0" as 10
            except ValueError:
                value = math.nan
            if not low <= value <= high:
                raise ValueError(f"label {text!r}, expected {expected}")
            return value

        return score

    def gold(self, task: TaskSpec, label: float) -> float:
        """See `Kind`."""
        return float(label)

    def losses(
        self, task: TaskSpec, logits: tf.Tensor, label: tf.Tensor, here: tf.Tensor, group: tf.Tensor
    ) -> tf.Tensor:
        """Squared error (arXiv 1901.11504, Eq 7)."""
        import tensorflow as tf

        return tf.math.squared_difference(logits[:, 0], label)

    def majority(self, labels: np.ndarray) -> float:
        """The mean score."""
        return float(np.mean(labels, dtype=np.float64))

    def range_of(self, task: TaskSpec) -> str:
        """See `Kind`."""
        if task.score_range is None:
            return "a score"
        return f"a score from {task.score_range[0]:g} to {task.score_range[1]:g}"

    caption = "Predicted scores against the right ones."
    measure = "distance"

    def errors(self, answered: Answered) -> np.ndarray:
        """How far away the score is."""
        return np.abs(answered.predictions - answered.labels)

    def pictures(self, task: TaskSpec, answered: Answered) -> list[Callable[[Axes], None]]:
        """Predicted scores against the right ones."""
        from mtdnn_tf.tasks import pictures

        return [partial(pictures.scores, answered=answered)]

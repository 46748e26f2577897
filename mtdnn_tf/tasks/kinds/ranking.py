"""A query's candidates in the order of their relevance (arXiv 1901.11504, Eqs 5, 8 and 9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mtdnn_tf.tasks.kinds.classification import check_labels, class_ids
from mtdnn_tf.tasks.kinds.kind import Answered, Columns, Kind, numbers
from mtdnn_tf.tasks.metrics import ranks

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.axes import Axes

    from mtdnn_tf.tasks.spec import TaskSpec

EXCLUDED = -1e9  # The score of what is not a candidate.
_INSIDE = 1e-6  # A relevance under the sigmoid stays so far from 0 and 1.


class Ranking(Kind):
    """Labels are stored as 1 for a right candidate, else 0."""

    name = "ranking"
    texts = 2
    by_query = True

    def check(self, task: TaskSpec) -> None:
        """See `Kind`."""
        check_labels(task)
        if len(task.labels) != 2:
            raise ValueError("a ranking task has two labels, of a wrong and of a right candidate")

    def label_parser(self, task: TaskSpec) -> Callable[[str], float]:
        """See `Kind`."""
        return class_ids(task)

    def gold(self, task: TaskSpec, label: float) -> str:
        """See `Kind`."""
        return task.labels[int(label)]

    def losses(
        self, task: TaskSpec, logits: tf.Tensor, label: tf.Tensor, here: tf.Tensor, group: tf.Tensor
    ) -> tf.Tensor:
        """Negative log of the probability that a query's right candidates have among all of its own.

        The probability of a candidate is the softmax of gamma times its relevance over the query's
        candidates (Eq 9). Of several right ones the probabilities are added; with one it is Eq 8.
        """
        import tensorflow as tf

        relevance = self.answer(task, logits)["score"]
        scores = tf.where(here, task.ranking_settings.gamma * relevance, EXCLUDED)
        of_all = _group_logsumexp(scores, group)
        of_right = _group_logsumexp(tf.where(label > 0.5, scores, EXCLUDED), group)
        return tf.gather(of_all - of_right, group)

    def log_probabilities(
        self, task: TaskSpec, logits: tf.Tensor, group: tf.Tensor | None, temperature: float
    ) -> tf.Tensor:
        """Of a candidate among those of its query."""
        import tensorflow as tf

        factor = task.ranking_settings.gamma / temperature
        scores = factor * self.answer(task, logits)["score"]
        return (scores - tf.gather(_group_logsumexp(scores, group), group))[:, tf.newaxis]

    def from_log_probabilities(
        self, task: TaskSpec, chances: tf.Tensor, group: tf.Tensor | None, temperature: float
    ) -> tf.Tensor:
        """See `Kind`."""
        settings = task.ranking_settings
        relevance = temperature / settings.gamma * chances
        return relevance if settings.activation == "none" else _under_sigmoid(relevance, group)

    def of_items(self, losses: tf.Tensor, group: tf.Tensor, *, mean: bool) -> tf.Tensor:
        """Those of the query."""
        import tensorflow as tf

        reduce = tf.math.unsorted_segment_mean if mean else tf.math.unsorted_segment_sum
        return tf.gather(reduce(losses, group, tf.shape(losses)[0]), group)

    def can_calibrate(self, task: TaskSpec) -> bool:
        """See `Kind`."""
        return task.ranking_settings.activation == "none"

    def answer(self, task: TaskSpec, logits: Any) -> dict[str, Any]:
        """The relevance g(w x) of Eq 5."""
        from keras import ops

        outputs = logits[:, 0]
        sigmoid = task.ranking_settings.activation == "sigmoid"
        return {"score": ops.sigmoid(outputs) if sigmoid else outputs}

    def columns(self, task: TaskSpec, logits: np.ndarray, groups: np.ndarray | None) -> Columns:
        """See `Kind`."""
        if groups is None:
            raise ValueError(f"{task.name}: candidates are ranked within groups, none were given")
        relevance = self.predictions(task, logits)
        return {
            "score": relevance.tolist(),
            "query": groups.tolist(),
            "rank": ranks(relevance, groups).tolist(),
            "probability": candidate_probabilities(task, relevance, groups).tolist(),
        }

    def read(self, task: TaskSpec, columns: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        """See `Kind`."""
        ids = {label: float(number) for number, label in enumerate(task.labels)}
        return {
            "labels": numbers(columns["gold"], ids),
            "predictions": numbers(columns["score"]),
            "groups": numbers(columns["query"]).astype(np.int64),
        }

    def range_of(self, task: TaskSpec) -> str:
        """See `Kind`."""
        return "a relevance, to order the candidates of a query by"

    caption = "Places of right candidates among those of their query."
    measure = "relevance off its query's mean"

    def errors(self, answered: Answered) -> np.ndarray:
        """How far a candidate's relevance is on the wrong side of the mean of its query's."""
        assert answered.groups is not None
        sizes = np.bincount(answered.groups)
        means = np.bincount(answered.groups, answered.predictions) / np.maximum(sizes, 1)
        above = answered.predictions - means[answered.groups]
        return np.where(answered.labels > 0.5, -above, above)

    def pictures(self, task: TaskSpec, answered: Answered) -> list[Callable[[Axes], None]]:
        """Places of right candidates."""
        from mtdnn_tf.tasks import pictures

        assert answered.groups is not None
        places = ranks(answered.predictions, answered.groups)[answered.labels > 0.5]
        return [partial(pictures.places, places=places)]


def candidate_probabilities(
    task: TaskSpec, relevance: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """The probability of each candidate among those of its query (Eq 9), [examples] float64."""
    scores = task.ranking_settings.gamma * relevance.astype(np.float64)
    _, group = np.unique(groups, return_inverse=True)
    highest = np.full(group.max(initial=-1) + 1, -np.inf)
    np.maximum.at(highest, group, scores)
    chances = np.exp(scores - highest[group])
    return chances / np.bincount(group, chances)[group]


def _group_logsumexp(scores: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """Log of the sum of exp(scores) of each group, at the group's number; [examples]."""
    import tensorflow as tf

    number = tf.shape(scores)[0]
    highest = tf.stop_gradient(tf.math.unsorted_segment_max(scores, group, number))
    highest = tf.maximum(highest, EXCLUDED)  # A number that no group has would be the lowest float.
    total = tf.math.unsorted_segment_sum(tf.exp(scores - tf.gather(highest, group)), group, number)
    return highest + tf.math.log(tf.maximum(total, 1e-30))


def _under_sigmoid(relevance: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """What the sigmoid makes `relevance`, moved for each query into the middle of (0, 1).

    A mean of probabilities that come from relevances in (0, 1) never needs a wider range, and a
    constant added to all candidates of a query changes no probability.
    """
    import tensorflow as tf

    number = tf.shape(relevance)[0]
    flat = relevance[:, 0]
    highest = tf.gather(tf.math.unsorted_segment_max(flat, group, number), group)
    lowest = tf.gather(tf.math.unsorted_segment_min(flat, group, number), group)
    inside = tf.clip_by_value(flat - (highest + lowest) / 2 + 0.5, _INSIDE, 1 - _INSIDE)
    return tf.math.log(inside / (1 - inside))[:, tf.newaxis]

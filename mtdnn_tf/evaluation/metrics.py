"""Metrics of tasks, as fractions (GLUE prints them times 100)."""

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from mtdnn_tf.tasks.kinds.classification import Classification
from mtdnn_tf.tasks.kinds.ranking import Ranking, ranks
from mtdnn_tf.tasks.spec import TaskSpec


def _correlation(statistic: Callable) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlation(labels: np.ndarray, predictions: np.ndarray) -> float:
        if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
            return 0.0
        value = float(statistic(labels, predictions).statistic)
        # Values so close to each other that their deviations round to 0 are constant as well.
        return value if np.isfinite(value) else 0.0

    return correlation


_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": sk.accuracy_score,
    "f1": lambda y, p: sk.f1_score(y, p, pos_label=1, zero_division=0),
    "macro_f1": lambda y, p: sk.f1_score(y, p, average="macro", zero_division=0),
    "matthews": sk.matthews_corrcoef,
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
}


def compute(
    metric: str, labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None = None
) -> float:
    """Returns one metric over a split.

    Args:
        metric: `accuracy`, `f1` (class 1 is positive), `macro_f1` (mean over the classes that occur
            in labels or predictions), `matthews`, `pearson` or `spearman`; for ranking `mrr` (mean
            over queries of 1 / the place of the best right candidate; see `ranks`) or
            `accuracy_at_1` (share of queries whose first place is a right candidate).
        labels: `[n]` class ids, or scores for the correlations; 1 for a right candidate, else 0.
        predictions: `[n]`, the same; scores for ranking.
        groups: `[n]` the query of each candidate, for ranking. Each has a right candidate.

    Returns:
        A fraction in [-1, 1]. What is undefined is 0: a correlation (Matthews too) with constant
        labels or predictions, an f1 without a positive label or prediction.

    Raises:
        ValueError: The metric is unknown, or the arrays are empty, differ in shape, or hold what is
            not a number, or not a class id (`f1`: 0 or 1) where one is needed.
    """
    if metric not in _METRICS and metric not in Ranking.metrics:
        known = ", ".join((*_METRICS, *Ranking.metrics))
        raise ValueError(f"unknown metric {metric!r}; known: {known}")
    labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(f"{metric}: labels {labels.shape} and predictions {predictions.shape}")
    if labels.size == 0:
        raise ValueError(f"{metric}: no labels")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if not np.isfinite(values).all():
            raise ValueError(f"{metric}: {name} are not all finite numbers")
        if metric in Classification.metrics and (values != np.floor(values)).any():
            raise ValueError(f"{metric}: {name} are not all class ids")
        if metric == "f1" and not np.isin(values, (0, 1)).all():
            raise ValueError(f"f1: {name} are not all 0 or 1")
    if metric in Ranking.metrics:
        return float(np.mean(of_queries(metric, labels, predictions, groups)))
    if metric in Classification.metrics:
        labels, predictions = labels.astype(np.int64), predictions.astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(_METRICS[metric](labels, predictions))


def of_queries(
    metric: str, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray | None
) -> np.ndarray:
    """What each query adds to a metric of ranking, which is their mean: [queries] float64.

    Args:
        metric: `mrr` or `accuracy_at_1`.
        labels: See `compute`.
        scores: [n].
        groups: [n].

    Raises:
        ValueError: A candidate has no query, or a query no right candidate.
    """
    if groups is None or np.shape(groups) != np.shape(labels):
        raise ValueError(f"{metric}: needs the query of each of the {len(labels)} candidates")
    numbers, group = np.unique(groups, return_inverse=True)
    best = np.full(len(numbers), np.inf)
    right = labels > 0.5
    np.minimum.at(best, group[right], ranks(scores, group)[right])
    if not np.isfinite(best).all():
        raise ValueError(f"{metric}: query {numbers[np.isinf(best)][0]} has no right candidate")
    return 1 / best if metric == "mrr" else (best == 1).astype(np.float64)


def task_score(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """Returns the mean over splits of the mean of a split's metrics, as GLUE averages a task.

    Args:
        metrics: Split name to metric name to value.

    Raises:
        ValueError: There is no split, or a split without metrics.
    """
    if not metrics or not all(metrics.values()):
        raise ValueError(f"a score needs a metric of every split, not {dict(metrics)}")
    means = [sum(values.values()) / len(values) for values in metrics.values()]
    return sum(means) / len(means)


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
    answer = task.kind.majority(train_labels)
    predictions = np.full(np.shape(dev_labels), answer)
    return {metric: compute(metric, dev_labels, predictions, groups) for metric in task.metrics}

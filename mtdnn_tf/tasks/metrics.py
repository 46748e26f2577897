"""Metrics of tasks, as fractions (GLUE prints them times 100)."""

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from mtdnn_tf.tasks.spec import CLASSIFICATION_METRICS, TaskSpec


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


def compute(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns one metric over a split.

    Args:
        metric: `accuracy`, `f1` (class 1 is positive), `macro_f1` (mean over the classes that occur
            in labels or predictions), `matthews`, `pearson` or `spearman`.
        labels: `[n]` class ids, or scores for the correlations.
        predictions: `[n]`, the same.

    Returns:
        A fraction in [-1, 1]. What is undefined is 0: a correlation (Matthews too) with constant
        labels or predictions, an f1 without a positive label or prediction.

    Raises:
        ValueError: The metric is unknown, or the arrays are empty, differ in shape, or hold what is
            not a number, or not a class id (`f1`: 0 or 1) where one is needed.
    """
    if metric not in _METRICS:
        raise ValueError(f"unknown metric {metric!r}; known: {', '.join(_METRICS)}")
    labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(f"{metric}: labels {labels.shape} and predictions {predictions.shape}")
    if labels.size == 0:
        raise ValueError(f"{metric}: no labels")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if not np.isfinite(values).all():
            raise ValueError(f"{metric}: {name} are not all finite numbers")
        if metric in CLASSIFICATION_METRICS and (values != np.floor(values)).any():
            raise ValueError(f"{metric}: {name} are not all class ids")
        if metric == "f1" and not np.isin(values, (0, 1)).all():
            raise ValueError(f"f1: {name} are not all 0 or 1")
    if metric in CLASSIFICATION_METRICS:
        labels, predictions = labels.astype(np.int64), predictions.astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(_METRICS[metric](labels, predictions))


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
    task: TaskSpec, train_labels: np.ndarray, dev_labels: np.ndarray
) -> dict[str, float]:
    """Returns the task's metrics of the best answer that ignores the text.

    That is the most frequent class of `train_labels` (of equals, the first), or their mean score.
    """
    if np.size(train_labels) == 0:
        raise ValueError("no train labels")
    if task.is_regression:
        answer = np.mean(train_labels, dtype=np.float64)
    else:
        classes, counts = np.unique(train_labels, return_counts=True)
        answer = classes[np.argmax(counts)]
    predictions = np.full(np.shape(dev_labels), answer)
    return {metric: compute(metric, dev_labels, predictions) for metric in task.metrics}

"""Metrics of tasks, as fractions (GLUE prints them times 100)."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import numpy as np

from mtdnn_tf.validation.registry import Registry

CLASSIFICATION = ("single_classification", "pair_classification")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that says how good the answers to a split are.

    Attributes:
        name: What configs call it.
        title: What tables call it.
        kinds: Names of the kinds of tasks that it fits.
        function: Labels and predictions to the number, [examples] float64; of a metric of classes
            their `ClassCounts` to the number; of a metric by query labels, scores and the query of
            each candidate to a number for each query, whose mean is the metric.
        of_classes: Whether labels and predictions are class ids of which only the counts matter.
        by_query: Whether it is a mean over queries.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    function: Callable[..., float | np.ndarray]
    of_classes: bool = False
    by_query: bool = False


class ClassCounts(NamedTuple):
    """What metrics of classes are computed from, [classes] int64 each.

    Attributes:
        right: How often each class was predicted where it is right.
        labels: How often it is right.
        predictions: How often it was predicted.
    """

    right: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, predictions: np.ndarray) -> Self:
        """Counts class ids, [n] int64 each."""
        count = partial(np.bincount, minlength=1 + max(labels.max(), predictions.max()))
        return cls(count(labels[labels == predictions]), count(labels), count(predictions))

    @property
    def f1(self) -> np.ndarray:
        """The F1 of each class; 0 of one that occurs nowhere."""
        return 2 * self.right / np.maximum(self.labels + self.predictions, 1)


def _accuracy(counts: ClassCounts) -> float:
    return counts.right.sum() / counts.labels.sum()


def _matthews(counts: ClassCounts) -> float:
    """Of any number of classes (Gorodkin, 2004)."""
    # Products of counts exceed 64 bits.
    right, labels, predictions = (count.astype(np.float64) for count in counts)
    total = labels.sum()
    covariance = right.sum() * total - labels @ predictions
    variances = (total**2 - labels @ labels) * (total**2 - predictions @ predictions)
    return covariance / np.sqrt(variances) if variances else 0.0


def _f1(counts: ClassCounts) -> float:
    """Of class 1; 0 without a label or prediction of it."""
    if len(counts.labels) > 2:
        raise ValueError("f1: labels and predictions are not all 0 or 1")
    return counts.f1[1] if len(counts.labels) == 2 else 0.0


def _macro_f1(counts: ClassCounts) -> float:
    """Mean over the classes that occur in labels or predictions."""
    return np.mean(counts.f1[counts.labels + counts.predictions > 0])


def _correlation(statistic: str) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlation(labels: np.ndarray, predictions: np.ndarray) -> float:
        from scipy import stats

        if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
            return 0.0
        value = float(getattr(stats, statistic)(labels, predictions).statistic)
        # Values so close to each other that their deviations round to 0 are constant as well.
        return value if np.isfinite(value) else 0.0

    return correlation


def ranks(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The place of each candidate among those of its query, [n] int64, from 1.

    Of candidates with equal scores each has the last of their places, so that a model that scores
    all alike gains nothing.

    Args:
        scores: [n] float.
        groups: [n] int, the query of each candidate.
    """
    from scipy import stats

    place = np.empty(len(scores), np.int64)
    by_group = np.argsort(groups, kind="stable")
    for here in np.split(by_group, np.flatnonzero(np.diff(groups[by_group])) + 1):
        place[here] = stats.rankdata(-scores[here], method="max")
    return place


def _best_places(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The place of the best right candidate of each query, [queries] float64."""
    numbers, group = np.unique(groups, return_inverse=True)
    best = np.full(len(numbers), np.inf)
    right = labels > 0.5
    np.minimum.at(best, group[right], ranks(scores, group)[right])
    if not np.isfinite(best).all():
        raise ValueError(f"query {numbers[np.isinf(best)][0]} has no right candidate")
    return best


METRICS = Registry(
    "metric",
    (
        Metric(
            name="matthews",
            title="Matthews",
            kinds=CLASSIFICATION,
            function=_matthews,
            of_classes=True,
        ),
        Metric(
            name="accuracy",
            title="accuracy",
            kinds=CLASSIFICATION,
            function=_accuracy,
            of_classes=True,
        ),
        Metric(name="f1", title="F1", kinds=CLASSIFICATION, function=_f1, of_classes=True),
        Metric(
            name="macro_f1",
            title="macro F1",
            kinds=CLASSIFICATION,
            function=_macro_f1,
            of_classes=True,
        ),
        Metric(
            name="pearson",
            title="Pearson",
            kinds=("similarity",),
            function=_correlation("pearsonr"),
        ),
        Metric(
            name="spearman",
            title="Spearman",
            kinds=("similarity",),
            function=_correlation("spearmanr"),
        ),
        Metric(
            name="mrr",
            title="MRR",
            kinds=("ranking",),
            function=lambda *of_candidates: 1 / _best_places(*of_candidates),
            by_query=True,
        ),
        Metric(
            name="accuracy_at_1",
            title="accuracy at 1",
            kinds=("ranking",),
            function=lambda *of_candidates: (_best_places(*of_candidates) == 1).astype(np.float64),
            by_query=True,
        ),
    ),
)


def compute(
    metric: str, labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None = None
) -> float:
    """Returns one metric over a split.

    Args:
        metric: `accuracy`, `f1` (class 1 is positive), `macro_f1` (mean over the classes that occur
            in labels or predictions), `matthews`, `pearson` or `spearman`; for ranking `mrr` (mean
            over queries of 1 / the place of the best right candidate; see `ranks`) or
            `accuracy_at_1` (share of queries whose first place is a right candidate); or one of a
            plug-in.
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
    found = METRICS.find(metric)
    labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(f"{metric}: labels {labels.shape} and predictions {predictions.shape}")
    if labels.size == 0:
        raise ValueError(f"{metric}: no labels")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if not np.isfinite(values).all():
            raise ValueError(f"{metric}: {name} are not all finite numbers")
        if found.of_classes and ((values != np.floor(values)) | (values < 0)).any():
            raise ValueError(f"{metric}: {name} are not all class ids")
    if found.by_query:
        return float(np.mean(of_queries(metric, labels, predictions, groups)))
    if found.of_classes:
        counts = ClassCounts.of(labels.astype(np.int64), predictions.astype(np.int64))
        return float(found.function(counts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(found.function(labels, predictions))


def of_queries(
    metric: str, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray | None
) -> np.ndarray:
    """What each query adds to a metric by query, which is their mean: [queries] float64.

    Args:
        metric: Such as `mrr` or `accuracy_at_1`.
        labels: See `compute`.
        scores: [n].
        groups: [n].

    Raises:
        ValueError: A candidate has no query, or a query no right candidate.
    """
    if groups is None or np.shape(groups) != np.shape(labels):
        raise ValueError(f"{metric}: needs the query of each of the {len(labels)} candidates")
    try:
        return np.asarray(METRICS.find(metric).function(labels, scores, groups))
    except ValueError as error:
        raise ValueError(f"{metric}: {error}") from None


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

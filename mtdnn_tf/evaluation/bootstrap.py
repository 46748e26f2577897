"""Paired bootstrap: whether one model is better than another on the same examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mtdnn_tf.evaluation.prediction_files import DevPredictions
from mtdnn_tf.tasks.metrics import compute, of_queries


@dataclass(frozen=True)
class Difference:
    """How much better one group of models is than another in a metric.

    Attributes:
        value: The difference of the two means over models, on all examples.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_not_better: Share of the resamplings in which it is not above 0.
    """

    value: float
    low: float
    high: float
    p_not_better: float


def paired_bootstrap(
    metric: str,
    better: Sequence[DevPredictions],
    worse: Sequence[DevPredictions],
    resamplings: int = 1000,
    seed: int = 0,
) -> Difference:
    """Compares models by drawing the examples of a split again and again, with replacement.

    All models answer the same examples in the same order. Where there are queries, they are drawn
    with all of their candidates.

    Args:
        metric: The metric.
        better: The predictions of each model of the first group, such as one a seed.
        worse: The same of the second group.
        resamplings: How often the examples are drawn.
        seed: Of the drawing.

    Raises:
        ValueError: The models did not answer the same examples.
    """
    everyone = [*better, *worse]
    for one in everyone:
        if not np.array_equal(one.labels, everyone[0].labels):
            raise ValueError("the models did not answer the same examples")
    groups = everyone[0].groups
    if groups is None:
        size, difference = len(everyone[0].labels), _difference(metric, better, worse)
    else:
        size, difference = len(np.unique(groups)), _difference_of_queries(metric, better, worse)
    rng = np.random.default_rng([seed, 7])
    drawn = np.array([difference(rng.integers(size, size=size)) for _ in range(resamplings)])
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = difference(np.arange(size))
    return Difference(value, float(low), float(high), float(np.mean(drawn <= 0)))


def _difference(
    metric: str, better: Sequence[DevPredictions], worse: Sequence[DevPredictions]
) -> Callable[[np.ndarray], float]:
    """The difference on some of the examples, by their positions."""

    def mean(models: Sequence[DevPredictions], rows: np.ndarray) -> float:
        return float(
            np.mean([compute(metric, m.labels[rows], m.predictions[rows]) for m in models])
        )

    return lambda rows: mean(better, rows) - mean(worse, rows)


def _difference_of_queries(
    metric: str, better: Sequence[DevPredictions], worse: Sequence[DevPredictions]
) -> Callable[[np.ndarray], float]:
    """The same of queries: the places of candidates within one do not change with what is drawn."""

    def mean(models: Sequence[DevPredictions]) -> np.ndarray:
        return np.mean(
            [of_queries(metric, m.labels, m.predictions, m.groups) for m in models], axis=0
        )

    gains = mean(better) - mean(worse)
    return lambda queries: float(np.mean(gains[queries]))

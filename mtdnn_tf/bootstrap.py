"""Paired bootstrap: whether one model is better than another on the same examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtdnn_tf.predictions import DevPredictions
from mtdnn_tf.tasks.metrics import compute


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
    rng = np.random.default_rng([seed, 7])
    value = _difference(metric, better, worse, *_everything(everyone[0]))
    drawn = np.array(
        [_difference(metric, better, worse, *_draw(everyone[0], rng)) for _ in range(resamplings)]
    )
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(value, float(low), float(high), float(np.mean(drawn <= 0)))


def _everything(one: DevPredictions) -> tuple[np.ndarray, np.ndarray | None]:
    return np.arange(len(one.labels)), one.groups


def _draw(one: DevPredictions, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions of the examples drawn, and for queries the number of the drawing of each."""
    if one.groups is None:
        size = len(one.labels)
        return rng.integers(size, size=size), None
    queries = np.unique(one.groups)
    members = [np.flatnonzero(one.groups == query) for query in queries]
    drawn = [members[number] for number in rng.integers(len(queries), size=len(queries))]
    return np.concatenate(drawn), np.repeat(np.arange(len(drawn)), [len(d) for d in drawn])


def _difference(
    metric: str,
    better: Sequence[DevPredictions],
    worse: Sequence[DevPredictions],
    rows: np.ndarray,
    groups: np.ndarray | None,
) -> float:
    def mean(models: Sequence[DevPredictions]) -> float:
        values = [compute(metric, m.labels[rows], m.predictions[rows], groups) for m in models]
        return float(np.mean(values))

    return mean(better) - mean(worse)

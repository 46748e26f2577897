"""Temperatures that make a teacher's probabilities honest (arXiv 1706.04599)."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.tasks.kinds.ranking import candidate_probabilities
from mtdnn_tf.tasks.spec import TaskSpec

LOWEST, HIGHEST = 0.05, 20.0


Split = tuple[TokenStore, np.ndarray]  # Labelled examples, and a teacher's logits for them.


def fit_temperature(task: TaskSpec, splits: Sequence[Split]) -> float:
    """The temperature under which a teacher's probabilities fit the labels of some examples best.

    Args:
        task: A classification or ranking task.
        splits: The examples.

    Returns:
        What the logits are to be divided by: the minimum of the negative log likelihood between
        0.05 and 20, or 1 where that is no better than leaving them as they are.
    """

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(task, splits, math.exp(log_temperature))

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
    return math.exp(found.x) if found.fun < loss(0.0) else 1.0


def negative_log_likelihood(
    task: TaskSpec, splits: Sequence[Split], temperature: float = 1.0
) -> float:
    """Mean over examples, or over queries, of -log of the probability of what is right.

    Args:
        task: A classification or ranking task.
        splits: The examples.
        temperature: What the logits, or a ranking task's relevances, are divided by.
    """
    log_chances = np.concatenate(
        [_log_chances(task, store, logits, temperature) for store, logits in splits]
    )
    return float(-log_chances.mean())


def _log_chances(
    task: TaskSpec, store: TokenStore, logits: np.ndarray, temperature: float
) -> np.ndarray:
    """Log of the probability of each example's label, or that a query's right candidates have."""
    if store.labels is None:
        raise ValueError(f"{task.name}: examples without labels have no likelihood")
    labels = np.asarray(store.labels).astype(np.int64)
    if store.groups is None:
        all_classes = special.log_softmax(logits.astype(np.float64) / temperature, axis=1)
        return all_classes[np.arange(len(labels)), labels]
    relevance = task.kind.predictions(task, logits) / temperature
    chances = candidate_probabilities(task, relevance, store.groups)
    right = np.bincount(store.groups, chances * (labels == 1))
    return np.log(np.maximum(right, np.finfo(np.float64).tiny))

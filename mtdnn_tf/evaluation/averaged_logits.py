"""The one prediction of several teachers, in the form of a single model's logits."""

from collections.abc import Sequence

import tensorflow as tf

from mtdnn_tf.evaluation.losses import group_logsumexp, relevance_of
from mtdnn_tf.tasks.spec import TaskSpec

_INSIDE = 1e-6  # A relevance under the sigmoid stays so far from 0 and 1.


def averaged_logits(
    task: TaskSpec,
    members: Sequence[tf.Tensor],
    group: tf.Tensor | None = None,
    temperature: float = 1.0,
    weights: Sequence[tf.Tensor] | None = None,
    of_logits: bool = False,
    calibration: Sequence[float] | None = None,
) -> tf.Tensor:
    """Logits that say what the members say on average (arXiv 1904.09482, Eq 3).

    Read at the same temperature T, they give the mean of the members' class probabilities:
    `softmax(logits / T)` is the mean of `softmax(member / T)`. For regression they are the mean
    score; for ranking, the probabilities are those of a query's candidates.

    Args:
        task: The task.
        members: For each member the output of its head, [examples, outputs] float32.
        group: For ranking [examples] int32, the position of the first candidate of the same query.
        temperature: T.
        weights: For each member its share in the prediction for each example, [examples] float32,
            0 where it has none and not all 0; by default all are equal.
        of_logits: Average the logits themselves.
        calibration: For each member a temperature of its own (see `calibration`), in the probabilities
            of which T is 1; by default 1. It does not touch scores and relevances under `of_logits`.

    Returns:
        [examples, outputs] float32.
    """
    shares = _log_shares(members, weights)
    if task.is_regression or of_logits:
        if calibration and not task.has_score:
            members = [m / own for m, own in zip(members, calibration, strict=True)]
        return tf.reduce_sum(tf.exp(shares)[:, :, tf.newaxis] * tf.stack(members), axis=0)
    own = calibration or [1.0] * len(members)
    log_chances = tf.stack(
        [
            log_probabilities(task, logits, group, temperature * of_member)
            for logits, of_member in zip(members, own, strict=True)
        ]
    )
    mean = tf.reduce_logsumexp(log_chances + shares[:, :, tf.newaxis], axis=0)
    if not task.is_ranking:
        return temperature * mean
    settings = task.ranking_settings
    relevance = temperature / settings.gamma * mean
    return relevance if settings.activation == "none" else _under_sigmoid(relevance, group)


def log_probabilities(
    task: TaskSpec, logits: tf.Tensor, group: tf.Tensor | None = None, temperature: float = 1.0
) -> tf.Tensor:
    """Log of the probability of each class, or of a candidate among those of its query.

    Args:
        task: A classification or ranking task.
        logits: [examples, outputs] float32.
        group: See `averaged_logits`.
        temperature: What the logits, or the relevances, are divided by.

    Returns:
        [examples, outputs] float32.
    """
    if not task.is_ranking:
        return tf.nn.log_softmax(logits / temperature)
    settings = task.ranking_settings
    scores = settings.gamma / temperature * relevance_of(settings, logits[:, 0])
    return (scores - tf.gather(group_logsumexp(scores, group), group))[:, tf.newaxis]


def _log_shares(members: Sequence[tf.Tensor], weights: Sequence[tf.Tensor] | None) -> tf.Tensor:
    """Log of each member's share in the prediction for each example, [members, examples]."""
    examples = tf.shape(members[0])[0]
    shares = tf.ones([len(members), examples]) if weights is None else tf.stack(weights)
    return tf.math.log(shares) - tf.math.log(tf.reduce_sum(shares, axis=0))


def _under_sigmoid(relevance: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """What the sigmoid makes `relevance`, moved for each query into the middle of (0, 1).

    A mean of probabilities that come from relevances in (0, 1) never needs a wider range, and a
    constant added to all candidates of a query changes no probability.
    """
    number = tf.shape(relevance)[0]
    flat = relevance[:, 0]
    highest = tf.gather(tf.math.unsorted_segment_max(flat, group, number), group)
    lowest = tf.gather(tf.math.unsorted_segment_min(flat, group, number), group)
    inside = tf.clip_by_value(flat - (highest + lowest) / 2 + 0.5, _INSIDE, 1 - _INSIDE)
    return tf.math.log(inside / (1 - inside))[:, tf.newaxis]

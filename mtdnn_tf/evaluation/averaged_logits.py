"""The one prediction of several teachers, in the form of a single model's logits."""

from collections.abc import Sequence

import tensorflow as tf

from mtdnn_tf.tasks.spec import TaskSpec


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
    own = calibration or [1.0] * len(members)
    log_chances = [
        task.kind.log_probabilities(task, logits, group, temperature * of_member)
        for logits, of_member in zip(members, own, strict=True)
    ]
    if of_logits or log_chances[0] is None:
        if calibration and task.kind.has_classes:
            members = [m / own for m, own in zip(members, calibration, strict=True)]
        return tf.reduce_sum(tf.exp(shares)[:, :, tf.newaxis] * tf.stack(members), axis=0)
    mean = tf.reduce_logsumexp(tf.stack(log_chances) + shares[:, :, tf.newaxis], axis=0)
    return task.kind.from_log_probabilities(task, mean, group, temperature)


def _log_shares(members: Sequence[tf.Tensor], weights: Sequence[tf.Tensor] | None) -> tf.Tensor:
    """Log of each member's share in the prediction for each example, [members, examples]."""
    examples = tf.shape(members[0])[0]
    shares = tf.ones([len(members), examples]) if weights is None else tf.stack(weights)
    return tf.math.log(shares) - tf.math.log(tf.reduce_sum(shares, axis=0))

"""The loss of each example under its own task's head."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from mtdnn_tf.tasks.spec import RankingSettings, TaskSpec

EXCLUDED = -1e9  # The score of what is not a candidate.


def example_losses(
    tasks: Sequence[TaskSpec], logits: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]
) -> tf.Tensor:
    """Cross entropy (arXiv 1901.11504, Eq 6), squared error (Eq 7), or the ranking loss (Eqs 8, 9).

    Args:
        tasks: The tasks in the order that `batch["task"]` counts.
        logits: Task name to the output of its head for every example, [examples, outputs] float32.
        batch: A packed batch.

    Returns:
        [examples] float32: each example's loss under the head of its own task; for a candidate of a
        query, the loss of the query; 0 without a label, which is not a number then.
    """
    losses = tf.zeros_like(batch["label"])
    has_label = ~tf.math.is_nan(batch["label"])
    for position, task in enumerate(tasks):
        of_task = (batch["task"] == position) & has_label
        label = tf.where(of_task, batch["label"], 0.0)
        output = logits[task.name]
        if task.is_regression:
            loss = tf.math.squared_difference(output[:, 0], label)
        elif task.is_ranking:
            loss = ranking_losses(
                task.ranking_settings, output[:, 0], label, of_task, batch["group"]
            )
        else:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(label, tf.int32), output)
        losses = tf.where(of_task, loss, losses)
    return losses


def ranking_losses(
    settings: RankingSettings,
    outputs: tf.Tensor,
    label: tf.Tensor,
    of_task: tf.Tensor,
    group: tf.Tensor,
) -> tf.Tensor:
    """Negative log of the probability that a query's right candidates have among all of its own.

    The probability of a candidate is the softmax of gamma times its relevance over the query's
    candidates (Eq 9). Of several right ones the probabilities are added; with one it is Eq 8.

    Args:
        settings: g and gamma.
        outputs: [examples] float32, w x of Eq 5.
        label: [examples] float32, 1 for a right candidate, else 0.
        of_task: [examples] bool, false where there is no candidate.
        group: [examples] int32, the query of each candidate.

    Returns:
        [examples] float32, at each candidate the loss of its query.
    """
    scores = tf.where(of_task, settings.gamma * relevance_of(settings, outputs), EXCLUDED)
    of_all = group_logsumexp(scores, group)
    of_right = group_logsumexp(tf.where(label > 0.5, scores, EXCLUDED), group)
    return tf.gather(of_all - of_right, group)


def relevance_of(settings: RankingSettings, outputs: tf.Tensor) -> tf.Tensor:
    """g(w x) of Eq 5 for the outputs w x of a ranking head."""
    return tf.sigmoid(outputs) if settings.activation == "sigmoid" else outputs


def group_logsumexp(scores: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """Log of the sum of exp(scores) of each group, at the group's number; [examples]."""
    number = tf.shape(scores)[0]
    highest = tf.stop_gradient(tf.math.unsorted_segment_max(scores, group, number))
    highest = tf.maximum(highest, EXCLUDED)  # A number that no group has would be the lowest float.
    total = tf.math.unsorted_segment_sum(tf.exp(scores - tf.gather(highest, group)), group, number)
    return highest + tf.math.log(tf.maximum(total, 1e-30))


def task_sums(number_of_tasks: int, losses: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum of unweighted losses and number of items of each task, [tasks, 2] float32."""
    is_first = batch["group"] == tf.range(tf.shape(batch["group"])[0])
    real = tf.cast((batch["index"] >= 0) & is_first, tf.float32)
    one_hot = tf.one_hot(batch["task"], number_of_tasks) * real[:, tf.newaxis]
    return tf.matmul(one_hot, tf.stack([losses, tf.ones_like(losses)], axis=1), transpose_a=True)

"""The training step, as an Orbit trainer."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import orbit
import tensorflow as tf

from mtdnn_tf.distillation.teaching import Teaching
from mtdnn_tf.evaluation.losses import example_losses, task_sums
from mtdnn_tf.tasks.spec import TaskSpec

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices


class Trainer(orbit.StandardTrainer):
    """Updates the model on packed batches of mixed tasks.

    The loss of a step is the sum over its examples of `batch["weight"]` times the example's loss;
    the weights are made for the global batch, so one replica and several take the same step.
    Gradients are summed over replicas first, then clipped by their global norm, then applied.

    Args:
        model: The functional model, created in the strategy's scope.
        tasks: The tasks in the order that the batches count them.
        optimizer: Built for the model's trainable variables.
        step: Counts the updates, int64.
        dataset: Distributed data set that yields one batch a replica each step.
        strategy: The distribution strategy.
        clip_norm: Limit of the global gradient norm; None leaves gradients as they are.
        pieces: More than 1: the data set yields stacks of so many pieces of a replica's batch, whose
            gradients are added up.
        xla: Compile the replica's step; with several replicas, its gradients, since XLA cannot
            compile a sum over devices.
        teaching: What the teachers say of a batch; None trains on the labels alone.
    """

    def __init__(
        self,
        *,
        model: keras.Model,
        tasks: Sequence[TaskSpec],
        optimizer: keras.optimizers.Optimizer,
        step: tf.Variable,
        dataset: tf.data.Dataset,
        strategy: tf.distribute.Strategy,
        clip_norm: float | None,
        pieces: int = 1,
        xla: bool,
        teaching: Teaching | None = None,
    ) -> None:
        super().__init__(dataset)
        self.step = step
        self._model, self._tasks, self._optimizer = model, tuple(tasks), optimizer
        self._strategy, self._clip_norm, self._pieces = strategy, clip_norm, pieces
        self._teaching = teaching
        self._scales_loss = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        # Under XLA, and where they are summed over replicas or pieces, gradients are tensors.
        alone = strategy.num_replicas_in_sync == pieces == 1
        self._as_gradient = _distinct_rows if alone and not xla else tf.convert_to_tensor
        self._replica_step, self._gradients = self._update, self._sum_of_pieces
        if xla and strategy.num_replicas_in_sync == 1:
            self._replica_step = tf.function(self._update, autograph=False, jit_compile=True)
        elif xla:
            self._gradients = tf.function(self._sum_of_pieces, autograph=False, jit_compile=True)
        with strategy.scope():
            self._sums = tf.Variable(tf.zeros([len(self._tasks), 2]), trainable=False)
            # Sum of gradient norms, real tokens, steps, steps left out.
            self._totals = tf.Variable(tf.zeros([4]), trainable=False)

    # Nothing in a step needs AutoGraph, which takes seconds to read all that it calls.
    @tf.autograph.experimental.do_not_convert
    def _update(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """One update; returns the sums of `task_sums` and what is added to `_totals`."""
        gradients, sums, tokens = self._gradients(batch)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        # The loss may be scaled, and then the optimizer divides by the scale.
        norm = tf.linalg.global_norm(gradients) / self._scale_loss(tf.ones([]))
        # Keras' optimizer sums over replicas once more.
        replicas = context.num_replicas_in_sync
        factor = self._clipping(norm) / replicas
        if self._clip_norm is not None or replicas > 1:
            gradients = [_scaled(gradient, factor) for gradient in gradients]
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        self._optimizer.apply(gradients, self._model.trainable_variables)
        skipped = tf.zeros([])
        if self._scales_loss:
            skipped = tf.cast(~tf.math.is_finite(norm), tf.float32)
            norm = tf.math.multiply_no_nan(norm, 1.0 - skipped)
        return sums, tf.stack([norm / replicas, tokens, 1 / replicas, skipped / replicas])

    def _clipping(self, norm: tf.Tensor) -> tf.Tensor:
        """What gradients of that global norm are multiplied by; not a number where it is not finite."""
        if self._clip_norm is None:
            return tf.ones([])
        factor = self._clip_norm / tf.maximum(norm, self._clip_norm)
        return tf.where(tf.math.is_finite(norm), factor, math.nan)

    def _sum_of_pieces(
        self, batch: dict[str, tf.Tensor]
    ) -> tuple[list[Gradient], tf.Tensor, tf.Tensor]:
        """Gradients of a replica's batch, sums of its losses, and its number of real tokens."""
        if self._pieces == 1:
            return self._piece(batch)
        zeros = (
            [tf.zeros(v.shape, v.dtype) for v in self._model.trainable_variables],
            tf.zeros([len(self._tasks), 2]),
            tf.zeros([]),
        )

        def add(number: tf.Tensor, total: Any) -> tuple[tf.Tensor, Any]:
            piece = {name: tensor[number] for name, tensor in batch.items()}
            return number + 1, tf.nest.map_structure(tf.add, total, self._piece(piece))

        # A loop that takes one piece after another, or all would be in memory at once.
        _, total = tf.while_loop(
            lambda number, _: number < self._pieces,
            add,
            (tf.constant(0), zeros),
            parallel_iterations=1,
            maximum_iterations=self._pieces,
        )
        return total

    def _piece(self, batch: dict[str, tf.Tensor]) -> tuple[list[Gradient], tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            inputs = {name: batch[name] for name in self._model.input}
            logits = self._model(inputs, training=True)
            losses = self._losses(batch, logits)
            loss = self._scale_loss(tf.reduce_sum(batch["weight"] * losses))
        variables = self._model.trainable_variables
        # None is the pooler's where every head reads words (SAN).
        gradients = [
            tf.zeros(variable.shape) if gradient is None else self._as_gradient(gradient)
            for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True)
        ]
        tokens = tf.math.count_nonzero(batch["example_ids"], dtype=tf.float32)
        return gradients, task_sums(len(self._tasks), losses, batch), tokens

    def _losses(self, batch: dict[str, tf.Tensor], logits: dict[str, tf.Tensor]) -> tf.Tensor:
        if self._teaching is None:
            return example_losses(self._tasks, logits, batch)
        return self._teaching.losses_of(batch, logits, self.step)

    def _scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        return self._optimizer.scale_loss(loss) if self._scales_loss else loss

    def train_loop_begin(self) -> None:
        """Starts new sums for the log."""
        self._sums.assign(tf.zeros_like(self._sums))
        self._totals.assign(tf.zeros_like(self._totals))

    def train_step(self, iterator: Any) -> None:
        """Takes one step on all replicas."""
        batch = next(iterator)
        if self._teaching is not None:
            batch = self._teaching.taught(batch, self._pieces)
        sums, totals = self._strategy.run(self._replica_step, args=(batch,))
        add = tf.distribute.ReduceOp.SUM
        self._sums.assign_add(self._strategy.reduce(add, sums, axis=None))
        self._totals.assign_add(self._strategy.reduce(add, totals, axis=None))
        self.step.assign_add(1)

    def train_loop_end(self) -> dict[str, Any]:
        """Returns this loop's numbers.

        `loss` (mean) and `examples` (number) of each task seen; `gradient_norm`, the sum of the
        steps' norms before clipping; `tokens`, real tokens; `steps`; under `mixed_float16` also
        `skipped_steps`, left out because their gradient overflowed, and `loss_scale`.
        """
        sums, (norm, tokens, steps, skipped) = self._sums.numpy(), self._totals.numpy()
        names = [task.name for task in self._tasks]
        seen = {name: row for name, row in zip(names, sums, strict=True) if row[1]}
        return {
            "loss": {name: np.float32(row[0] / row[1]) for name, row in seen.items()},
            "examples": {name: int(row[1]) for name, row in seen.items()},
            "gradient_norm": float(norm),
            "tokens": int(tokens),
            "steps": round(float(steps)),
        } | self._scaling(skipped)

    def _scaling(self, skipped: float) -> dict[str, Any]:
        if not self._scales_loss:
            return {}
        scale = float(self._optimizer.dynamic_scale.numpy())
        return {"skipped_steps": round(float(skipped)), "loss_scale": scale}


def _distinct_rows(gradient: Gradient) -> Gradient:
    """A gradient in which no row of an embedding table comes twice.

    The norm of `IndexedSlices` counts rows that come twice apart; without them it is right, and
    neither it nor the clipping has to pass over a whole table for the few rows of a batch.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, number = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, number, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _scaled(gradient: Gradient, factor: tf.Tensor) -> Gradient:
    """A gradient times a number."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor

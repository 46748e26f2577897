"""The training step, as an Orbit trainer."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import orbit
import tensorflow as tf

from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.training.losses import example_losses, task_sums

MODEL_INPUTS = ("token_ids", "type_ids", "position_ids", "example_ids", "first_slot")


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a batch that the model takes."""
    return {name: batch[name] for name in MODEL_INPUTS}


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
        xla: Compile the replica's step.
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
        xla: bool,
    ) -> None:
        super().__init__(dataset)
        self.step = step
        self._model, self._tasks, self._optimizer = model, tuple(tasks), optimizer
        self._strategy, self._clip_norm = strategy, clip_norm
        self._replica_step = tf.function(self._update, jit_compile=True) if xla else self._update
        with strategy.scope():
            self._sums = tf.Variable(tf.zeros([len(self._tasks), 2]), trainable=False)
            # Sum of gradient norms, real tokens, steps.
            self._totals = tf.Variable(tf.zeros([3]), trainable=False)

    def _update(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model(model_inputs(batch), training=True)
            losses = example_losses(self._tasks, logits, batch)
            loss = tf.reduce_sum(batch["weight"] * losses)
        gradients = tape.gradient(loss, variables)
        # Dense first: the norm of an embedding's IndexedSlices counts repeated rows apart. None is
        # the pooler's where every head reads words (SAN).
        gradients = [
            tf.zeros(variable.shape) if gradient is None else tf.convert_to_tensor(gradient)
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(gradients)
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        # Keras' optimizer sums over replicas once more.
        replicas = context.num_replicas_in_sync
        self._optimizer.apply([g / replicas for g in gradients], variables)
        tokens = tf.math.count_nonzero(batch["example_ids"], dtype=tf.float32)
        totals = tf.stack([norm / replicas, tokens, 1 / replicas])
        return task_sums(len(self._tasks), losses, batch), totals

    def train_loop_begin(self) -> None:
        """Starts new sums for the log."""
        self._sums.assign(tf.zeros_like(self._sums))
        self._totals.assign(tf.zeros_like(self._totals))

    def train_step(self, iterator: Any) -> None:
        """Takes one step on all replicas."""
        sums, totals = self._strategy.run(self._replica_step, args=(next(iterator),))
        add = tf.distribute.ReduceOp.SUM
        self._sums.assign_add(self._strategy.reduce(add, sums, axis=None))
        self._totals.assign_add(self._strategy.reduce(add, totals, axis=None))
        self.step.assign_add(1)

    def train_loop_end(self) -> dict[str, Any]:
        """Returns this loop's numbers.

        `loss` (mean) and `examples` (number) of each task seen; `gradient_norm`, the sum of the
        steps' norms before clipping; `tokens`, real tokens; `steps`.
        """
        sums, (norm, tokens, steps) = self._sums.numpy(), self._totals.numpy()
        names = [task.name for task in self._tasks]
        seen = {name: row for name, row in zip(names, sums, strict=True) if row[1]}
        return {
            "loss": {name: np.float32(row[0] / row[1]) for name, row in seen.items()},
            "examples": {name: int(row[1]) for name, row in seen.items()},
            "gradient_norm": float(norm),
            "tokens": int(tokens),
            "steps": round(float(steps)),
        }

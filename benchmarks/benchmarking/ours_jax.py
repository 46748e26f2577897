"""This project's packed training step under Keras' JAX backend, where there is no TensorFlow.

The model, the plan and the batches are the project's own; the step is written here, since the trainer is
TensorFlow's. Batches are put on the device before they are needed.
"""

import os
from itertools import cycle
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras

from benchmarking.experiment import PRECISIONS, build_experiment, rows_of, stores_of
from benchmarking.workload import Workload
from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.modeling import BertConfig, build_mtdnn

BATCHES = 32


class Runner:
    """Trains a model of one task: AdamW, clipping by the global norm.

    Args:
        contender: `ours fp32|bf16 packed [no-dropout]`.
        workload: The examples.
        settings: `config`, `examples`, `dropout`. Weights are random.
    """

    def __init__(self, contender: str, workload: Workload, settings: dict[str, Any]) -> None:
        _, precision, _, *rest = contender.split()
        dropout = 0.0 if rest else settings["dropout"]
        rates = {"hidden_dropout": dropout, "attention_dropout": dropout}
        config = BertConfig(**{**settings["config"], **rates})
        policy = PRECISIONS[precision]
        rows = rows_of(workload, settings)
        experiment = build_experiment(1, workload.max_length, rows, policy)
        plan = TrainingPlan(experiment, stores_of(workload, 1))
        shape = plan.shape
        model = build_mtdnn(
            config,
            experiment.heads,
            dtype=policy,
            rows=shape.rows,
            length=shape.length,
            examples=shape.examples,
        )
        optimizer = keras.optimizers.AdamW(5e-5, weight_decay=0.01, global_clipnorm=1.0)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        optimizer.build(model.trainable_variables)
        self._step = _compiled(model, optimizer)
        self._state = [
            [variable.value for variable in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                optimizer.variables,
            )
        ]
        batches = [batch for batch, _ in zip(plan.batches(0), range(BATCHES), strict=False)]
        sizes = [
            (int((batch["index"] >= 0).sum()), int((batch["example_ids"] > 0).sum()))
            for batch in batches
        ]
        self._batches = cycle(list(zip(map(jax.device_put, batches), sizes, strict=True)))

    def steps(self, count: int) -> tuple[int, int]:
        """Takes steps; returns their numbers of examples and of real tokens."""
        examples = tokens = 0
        for _ in range(count):
            batch, sizes = next(self._batches)
            loss, self._state = self._step(self._state, batch)
            examples, tokens = examples + sizes[0], tokens + sizes[1]
        loss.block_until_ready()
        return examples, tokens

    def device_peak(self) -> int | None:
        """Most bytes held on the accelerator, if there is one."""
        statistics = jax.devices()[0].memory_stats()
        return statistics["peak_bytes_in_use"] if statistics else None


def _compiled(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Any:
    """A function of the state and a batch to the loss and the next state."""
    names = [tensor.name for tensor in model.inputs]
    (task,) = model.output

    def loss_of(trainable: list, others: list, batch: dict) -> tuple[Any, list]:
        inputs = {name: batch[name] for name in names}
        outputs, others = model.stateless_call(trainable, others, inputs, training=True)
        losses = keras.ops.sparse_categorical_crossentropy(
            keras.ops.cast(batch["label"], "int32"), outputs[task], from_logits=True
        )
        return keras.ops.sum(losses * batch["weight"]), others

    def step(state: list, batch: dict) -> tuple[Any, list]:
        trainable, others, moments = state
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), gradients = gradient(trainable, others, batch)
        trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
        return loss, [trainable, others, moments]

    return jax.jit(step, donate_argnums=0)

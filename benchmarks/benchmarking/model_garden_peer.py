"""Model Garden's `BertEncoderV2` with tf_keras, trained in a graph on padded batches."""

import os
from collections.abc import Iterator
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tf_keras
from official.nlp.modeling.models import BertClassifier
from official.nlp.modeling.networks import BertEncoderV2

from benchmarking.workload import Workload

SLOTS = ("token_ids", "mask", "type_ids")


class Runner:
    """Trains `BertClassifier` on batches padded to their longest example, in a `tf.function`.

    Weights are random: they make no difference to the time.

    Args:
        contender: `model_garden fp32|bf16 pad|dynamic`.
        workload: The examples.
        settings: `config`, `examples`, `dropout`, `threads`.
    """

    def __init__(self, contender: str, workload: Workload, settings: dict[str, Any]) -> None:
        _, precision, padding = contender.split()
        if settings["threads"]:
            tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
        if precision == "bf16":
            tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
        config, dropout = settings["config"], settings["dropout"]
        encoder = BertEncoderV2(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            num_layers=config["num_layers"],
            num_attention_heads=config["num_heads"],
            inner_dim=config["intermediate_size"],
            output_dropout=dropout,
            attention_dropout=dropout,
        )
        self._model = BertClassifier(encoder, num_classes=2, dropout_rate=dropout)
        self._optimizer = tf_keras.optimizers.AdamW(5e-5, weight_decay=0.01, global_clipnorm=1.0)
        self._optimizer.build(self._model.trainable_variables)
        self._workload, self._length = workload, workload.max_length if padding == "pad" else None
        self._batches: Iterator[np.ndarray] = workload.batches(
            settings["examples"], settings["turn"]
        )
        slots = tf.TensorSpec([settings["examples"], self._length], tf.int32)
        labels = tf.TensorSpec([settings["examples"]], tf.int32)
        self._step = tf.function(self._update, input_signature=[slots, slots, slots, labels])

    def _update(
        self, token_ids: tf.Tensor, mask: tf.Tensor, type_ids: tf.Tensor, labels: tf.Tensor
    ) -> tf.Tensor:
        inputs = {"input_word_ids": token_ids, "input_mask": mask, "input_type_ids": type_ids}
        with tf.GradientTape() as tape:
            logits = tf.cast(self._model(inputs, training=True), tf.float32)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        variables = self._model.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def steps(self, count: int) -> tuple[int, int]:
        """Takes steps; returns their numbers of examples and of real tokens."""
        examples = tokens = 0
        for _ in range(count):
            chosen = next(self._batches)
            batch = self._workload.padded(chosen, self._length)
            loss = self._step(*(batch[name] for name in SLOTS), batch["labels"])
            examples += len(chosen)
            tokens += int(self._workload.lengths[chosen].sum())
        loss.numpy()
        return examples, tokens

    def device_peak(self) -> int | None:
        """Most bytes held on the accelerator, if there is one."""
        if not tf.config.list_physical_devices("GPU"):
            return None
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])

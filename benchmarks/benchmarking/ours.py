"""This project's training step: its plan, its pipeline, its trainer."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarking.experiment import PRECISIONS, build_experiment, rows_of, stores_of
from benchmarking.workload import Workload
from mtdnn_tf import pretrained
from mtdnn_tf.data.batch import Batch, BatchShape
from mtdnn_tf.data.pipeline import as_dataset, batch_signature
from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.distribution.strategy import build_strategy
from mtdnn_tf.modeling import BertConfig, build_mtdnn, encoder_of
from mtdnn_tf.training.optimizer import build_optimizer, learning_rate_schedule
from mtdnn_tf.training.setup import counter, reproducible, uses_xla
from mtdnn_tf.training.step import Trainer


class Runner:
    """Trains a model with the project's own trainer.

    Args:
        contender: `ours fp32|bf16 packed|pad|dynamic [no-dropout]`.
        workload: The examples.
        settings: `encoder` (a Hugging Face folder or null for random weights), `config`, `examples`,
            `turn`, `dropout`, `threads`; and, if given, `rows` of a packed batch in place of as many as
            hold `examples`, `tasks` that the examples are divided among, and `replicas` on CPU.
    """

    def __init__(self, contender: str, workload: Workload, settings: dict[str, Any]) -> None:
        _, precision, form, *rest = contender.split()
        if settings["threads"]:
            tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
        replicas = settings.get("replicas", 1)
        strategy = tf.distribute.get_strategy()
        if replicas > 1:
            strategy = build_strategy("mirrored", [f"CPU:{number}" for number in range(replicas)])
        dropout = 0.0 if rest else settings["dropout"]
        length = workload.max_length
        tasks = settings.get("tasks", 1)
        stores = stores_of(workload, tasks)
        rows = rows_of(workload, settings)
        experiment = build_experiment(tasks, length, rows, PRECISIONS[precision])
        self._lasting = ExitStack()
        self._lasting.enter_context(reproducible(experiment.training))
        rates = {"hidden_dropout": dropout, "attention_dropout": dropout}
        config = BertConfig(**{**settings["config"], **rates})
        plan = TrainingPlan(experiment, stores, replicas)
        with strategy.scope():
            model = build_mtdnn(config, experiment.heads, dtype=PRECISIONS[precision])
            if settings["encoder"]:
                pretrained.load_encoder_weights(encoder_of(model), Path(settings["encoder"]))
            schedule = learning_rate_schedule(experiment.training, plan.total_steps)
            optimizer = build_optimizer(experiment.training, schedule)
            optimizer.build(model.trainable_variables)
            step = counter(tf.int64, 0)
        if form == "packed":
            dataset = as_dataset(lambda: plan.batches(0), plan.shape)
        else:
            dataset = _padded(workload, settings, length if form == "pad" else None)
        self._trainer = Trainer(
            model=model,
            tasks=experiment.heads,
            optimizer=optimizer,
            step=step,
            dataset=strategy.distribute_datasets_from_function(lambda _: dataset),
            strategy=strategy,
            clip_norm=experiment.training.clip_norm,
            xla=uses_xla(experiment.training),
        )

    def steps(self, count: int) -> tuple[int, int]:
        """Takes steps; returns their numbers of examples and of real tokens."""
        output = self._trainer.train(tf.constant(count))
        return sum(output["examples"].values()), output["tokens"]

    def device_peak(self) -> int | None:
        """Most bytes held on the accelerator, if there is one."""
        if not tf.config.list_physical_devices("GPU"):
            return None
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])


def _padded(workload: Workload, settings: dict[str, Any], length: int | None) -> tf.data.Dataset:
    """The same batches that the peers take, an example a row."""
    examples = settings["examples"]

    def batches() -> Iterator[Batch]:
        for chosen in workload.batches(examples, settings["turn"]):
            padded = workload.padded(chosen, length)
            rows, slots = padded["token_ids"].shape
            numbers = np.arange(rows, dtype=np.int32)
            yield {
                "token_ids": padded["token_ids"],
                "type_ids": padded["type_ids"],
                "position_ids": np.tile(np.arange(slots, dtype=np.int32), (rows, 1)),
                "example_ids": padded["mask"],
                "first_slot": numbers * slots,
                "task": np.zeros(rows, np.int32),
                "index": chosen.astype(np.int32),
                "group": numbers,
                "weight": np.full(rows, 1 / rows, np.float32),
                "label": padded["labels"].astype(np.float32),
            }

    signature = batch_signature(BatchShape(examples, workload.max_length))
    for name, spec in signature.items():
        shape = [examples] if spec.shape.rank == 1 else [examples, length]
        signature[name] = tf.TensorSpec(shape, spec.dtype)
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8)

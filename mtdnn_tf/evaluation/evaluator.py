"""Logits of every example of some sources, and the metrics of dev splits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from mtdnn_tf.data.batch import SLOTS_PER_EXAMPLE, Batch, BatchShape, build_batch
from mtdnn_tf.data.mixture import in_file_order
from mtdnn_tf.data.packing import pack_epoch
from mtdnn_tf.data.pipeline import as_dataset, replicas_of
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.distribution.workers import Workers
from mtdnn_tf.evaluation.prediction import check_numbers
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.tasks.metrics import compute, task_score
from mtdnn_tf.tasks.spec import TaskSpec


def evaluation_shape(
    experiment: Experiment, strategy: tf.distribute.Strategy | None = None
) -> BatchShape:
    """Shape of a replica's part of a batch of `batch.eval_rows` rows, rounded up to whole rows.

    Args:
        experiment: The experiment.
        strategy: The strategy; by default the current one.
    """
    replicas = (strategy or tf.distribute.get_strategy()).num_replicas_in_sync
    rows = -(-experiment.batch.eval_rows // replicas)
    return BatchShape(rows, experiment.batch_length, experiment.data.windows > 1)


class LogitsRunner:
    """Runs a model over token stores, all tasks mixed in packed batches.

    Args:
        model: The model. Where it takes `group`, a query's candidates are put into one row.
        shape: Shape of one replica's batch; its rows are made longer where a query needs it.
        strategy: The strategy that the model was created in; by default the current one.
    """

    def __init__(
        self,
        model: keras.Model,
        shape: BatchShape,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self._shape = shape
        self._needs_queries = "group" in model.input
        self._strategy = strategy or tf.distribute.get_strategy()
        self._workers = Workers(self._strategy)

        @tf.function(reduce_retracing=True, autograph=False)
        def forward(batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], ...]:
            def replica(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
                inputs = {name: batch[name] for name in model.input}
                logits = model(inputs, training=False)
                logits = {f"logits/{name}": value for name, value in logits.items()}
                return {"task": batch["task"], "index": batch["index"], **logits}

            outputs = self._strategy.run(replica, args=(batch,))
            return self._strategy.experimental_local_results(outputs)

        self._forward = forward

    def run(self, sources: Sequence[tuple[TaskSpec, TokenStore]]) -> list[np.ndarray]:
        """Computes the logits of every example under its task's head.

        Args:
            sources: The stores, each with the task whose head is wanted.

        Each worker runs its replicas' share of the batches, and gets the logits of all.

        Returns:
            For each source [examples, outputs] float32, in the order of its store.

        Raises:
            UserError: A logit is not a finite number.
        """
        results = [np.zeros([len(store), task.output_size], np.float32) for task, store in sources]
        times_run = [np.zeros(len(store), np.int32) for _, store in sources]
        stores = [store for _, store in sources]
        replicas = self._strategy.num_replicas_in_sync
        shape = _long_enough(self._shape, stores) if self._needs_queries else self._shape

        def offsets(store: TokenStore) -> np.ndarray:
            """The windows of what has to share a row."""
            return store.item_windows if self._needs_queries else store.window_offsets

        packed = pack_epoch(
            [in_file_order([len(offsets(store)) - 1 for store in stores])],
            [store.lengths for store in stores],
            item_offsets=[offsets(store) for store in stores],
            rows=shape.rows * replicas,
            row_length=shape.length,
            most_in_row=shape.most_in_row,
        )

        def batches(replicas: range) -> Iterator[Batch]:
            for number in range(len(packed)):
                for replica in replicas:
                    yield build_batch(stores, packed, number, shape, replica)

        dataset = self._strategy.distribute_datasets_from_function(
            lambda context: as_dataset(lambda: batches(replicas_of(context)), shape)
        )
        for batch in dataset:
            for output in self._forward(batch):
                task, index = output["task"].numpy(), output["index"].numpy()
                for source in np.unique(task[index >= 0]):
                    here = (task == source) & (index >= 0)
                    logits = output[f"logits/{sources[source][0].name}"].numpy()
                    results[source][index[here]] = logits[here]
                    times_run[source][index[here]] += 1
        # What another worker ran is 0 here.
        if any((self._workers.sum(times) != 1).any() for times in times_run):
            raise RuntimeError("not every example was run exactly once")
        results = [self._workers.sum(logits) for logits in results]
        for (task, store), logits in zip(sources, results, strict=True):
            check_numbers(task.name, store.uids, logits)
        return results


def _long_enough(shape: BatchShape, stores: Sequence[TokenStore]) -> BatchShape:
    """The shape with rows that hold every query with all its candidates."""
    length = shape.length
    for store in stores:
        windows = np.diff(store.item_windows)
        tokens = np.diff(store.offsets[store.item_windows])
        length = max(
            length, int(tokens.max(initial=0)), int(SLOTS_PER_EXAMPLE * windows.max(initial=0))
        )
    return replace(shape, length=length)


def metrics_of(task: TaskSpec, store: TokenStore, logits: np.ndarray) -> dict[str, float]:
    """All metrics of a task's spec on one split.

    Raises:
        ValueError: There are no labels.
    """
    if store.labels is None:
        raise ValueError(f"{task.name}: a split without labels cannot be evaluated")
    predictions = task.kind.predictions(task, logits)
    return {
        metric: compute(metric, store.labels, predictions, store.groups) for metric in task.metrics
    }


@dataclass(frozen=True)
class DevResult:
    """What an evaluation found.

    Attributes:
        metrics: Task, split and metric to its value, a fraction.
        scores: Task to its score: the mean over its splits of the mean of its metrics.
        examples: Task and split to the number of examples.
        logits: For each source [examples, outputs] float32.
    """

    metrics: dict[str, dict[str, dict[str, float]]]
    scores: dict[str, float]
    examples: dict[str, dict[str, int]]
    logits: list[np.ndarray]

    @property
    def mean(self) -> float:
        """The mean of the tasks' scores."""
        return float(np.mean(list(self.scores.values())))


def evaluate(
    runner: LogitsRunner, sources: Sequence[tuple[TaskSpec, str, TokenStore]]
) -> DevResult:
    """Evaluates labelled splits in one pass; every example is counted once.

    Args:
        runner: Runs the model.
        sources: Tasks with the name and the store of a split.
    """
    logits = runner.run([(task, store) for task, _, store in sources])
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    examples: dict[str, dict[str, int]] = {}
    for (task, split, store), output in zip(sources, logits, strict=True):
        metrics.setdefault(task.name, {})[split] = metrics_of(task, store, output)
        examples.setdefault(task.name, {})[split] = len(store)
    scores = {name: task_score(of_splits) for name, of_splits in metrics.items()}
    return DevResult(metrics, scores, examples, logits)

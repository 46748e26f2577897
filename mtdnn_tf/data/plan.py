"""The training plan: every batch of a run, known by its step."""

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial

import numpy as np

from mtdnn_tf.config import Experiment
from mtdnn_tf.data.mixture import batch_order, plan_epoch, row_order
from mtdnn_tf.data.packing import PackedEpoch, pack_epoch
from mtdnn_tf.data.pipeline import Batch, BatchShape, build_batch, example_weights
from mtdnn_tf.data.store import TokenStore
from mtdnn_tf.errors import UserError


class TrainingPlan:
    """All batches of a training run as a pure function of the experiment and the data.

    Attributes:
        stores: Task name to the token store of its train split.
        shape: Shape of one replica's batch.
        replicas: Replicas of a step, over all workers.
        epoch_ends: [epochs] int64, the step after the last step of each epoch.
    """

    def __init__(
        self, experiment: Experiment, stores: Mapping[str, TokenStore], replicas: int = 1
    ) -> None:
        rows = experiment.batch.rows
        if rows % replicas:
            raise UserError(f"batch.rows {rows} cannot be divided among {replicas} replicas")
        self.stores = stores
        self.replicas = replicas
        self.shape = BatchShape(rows // replicas, experiment.batch_length)
        self._experiment = experiment
        self._sizes = {name: len(store) for name, store in stores.items()}
        self._loss_weights = [experiment.tasks[name].loss_weight for name in stores]
        self.epoch = lru_cache(maxsize=2)(self._epoch)
        epochs = range(experiment.training.epochs)
        self.epoch_ends = np.cumsum([len(self.epoch(number)) for number in epochs])

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return int(self.epoch_ends[-1])

    def _epoch(self, number: int) -> PackedEpoch:
        seed = self._experiment.training.seed
        epochs = self._experiment.training.epochs
        orders = plan_epoch(self._experiment.mixture, self._sizes, seed, number, epochs)
        return pack_epoch(
            orders,
            [store.lengths for store in self.stores.values()],
            rows=self._experiment.batch.rows,
            row_length=self.shape.length,
            most_in_row=self.shape.most_in_row,
            shuffle_rows=partial(row_order, seed, number),
            shuffle_batches=partial(batch_order, seed, number),
        )

    def epoch_of(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return int(np.searchsorted(self.epoch_ends, step, side="right"))

    def batches(self, start: int, replicas: range | None = None) -> Iterator[Batch]:
        """Yields the batches from step `start` on: for each step one batch a replica, in order.

        Args:
            start: The first step.
            replicas: The replicas whose batches are wanted; by default all.
        """
        stores = list(self.stores.values())
        for step in range(start, self.total_steps):
            epoch = self.epoch_of(step)
            packed = self.epoch(epoch)
            number = step - int(self.epoch_ends[epoch - 1] if epoch else 0)
            weights = example_weights(
                packed, number, self._loss_weights, self._experiment.training.loss_reduction
            )
            for replica in range(self.replicas) if replicas is None else replicas:
                yield build_batch(stores, packed, number, self.shape, replica, weights)

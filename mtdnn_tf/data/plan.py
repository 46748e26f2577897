"""The training plan: every batch of a run, known by its step."""

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial

import numpy as np

from mtdnn_tf.data.batch import Batch, BatchShape, build_batch, example_weights
from mtdnn_tf.data.mixture import batch_order, plan_epoch, row_order, task_counts
from mtdnn_tf.data.packing import PackedEpoch, pack_epoch
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.settings import Experiment

OFTEN = 2  # Times that an epoch may see an example before it is remarked on.


class TrainingPlan:
    """All batches of a training run as a pure function of the experiment and the data.

    Attributes:
        stores: Task name to the token store of its train split.
        shape: Shape of one piece of one replica's batch.
        replicas: Replicas of a step, over all workers.
        pieces: Pieces of a replica's batch.
        epoch_ends: [epochs] int64, the step after the last step of each epoch.
    """

    def __init__(
        self, experiment: Experiment, stores: Mapping[str, TokenStore], replicas: int = 1
    ) -> None:
        rows, pieces = experiment.batch.rows, experiment.batch.pieces
        if rows % (replicas * pieces):
            in_pieces = f" in {pieces} pieces each" if pieces > 1 else ""
            raise UserError(
                f"batch.rows {rows} cannot be divided among {replicas} replicas{in_pieces}"
            )
        self.stores = stores
        self.replicas = replicas
        self.pieces = pieces
        self.shape = BatchShape(
            rows // (replicas * pieces), experiment.batch_length, experiment.data.windows > 1
        )
        self._experiment = experiment
        self._item_windows = [store.item_windows for store in stores.values()]
        self._sizes = {
            name: len(offsets) - 1 for name, offsets in zip(stores, self._item_windows, strict=True)
        }
        for name, store in stores.items():
            _check_items(name, store, self.shape)
        self._loss_weights = [experiment.tasks[name].loss_weight for name in stores]
        self.epoch = lru_cache(maxsize=2)(self._epoch)
        epochs = range(experiment.training.epochs)
        self.epoch_ends = np.cumsum([len(self.epoch(number)) for number in epochs])

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return int(self.epoch_ends[-1])

    def times_seen(self) -> dict[str, float]:
        """Task name to how often an epoch sees each of its examples; the most of all epochs."""
        settings, epochs = self._experiment.mixture, self._experiment.training.epochs
        counts = [task_counts(settings, self._sizes, number, epochs) for number in range(epochs)]
        return {
            name: max(of_epoch[name] for of_epoch in counts) / size
            for name, size in self._sizes.items()
        }

    def describe(self) -> str:
        """The size of the run in a line, and one more where a task's examples are repeated often."""
        times = {name: round(number, 2) for name, number in self.times_seen().items()}
        sizes = ", ".join(
            f"{name} {len(store):,}" + (f" ({times[name]:g} times an epoch)" * (times[name] != 1))
            for name, store in self.stores.items()
        )
        among = f" on {self.replicas} replicas" if self.replicas > 1 else ""
        size = (
            f"{len(self.stores)} tasks, {sizes} training examples; {len(self.epoch_ends)} epochs, "
            f"{self.total_steps} steps of {self._experiment.batch.rows} rows of "
            f"{self.shape.length} slots{among}"
        )
        often = ", ".join(
            f"{name} {number:g} times" for name, number in times.items() if number > OFTEN
        )
        if not often:
            return size
        return (
            f"{size}\nwarning: an epoch repeats the same examples ({often}); with a lower "
            "mixture.examples_per_epoch, or with mixture.mode=proportional, it is shorter"
        )

    def _epoch(self, number: int) -> PackedEpoch:
        training, mixture = self._experiment.training, self._experiment.mixture
        seed = training.seed
        return pack_epoch(
            plan_epoch(mixture, self._sizes, seed, number, training.epochs),
            [store.lengths for store in self.stores.values()],
            item_offsets=self._item_windows,
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
        """Yields the batches from step `start` on: for each step one a replica, in order.

        With several pieces the tensors of a batch are stacked: [pieces, ...].

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
                stores,
                packed,
                number,
                self._loss_weights,
                self._experiment.training.loss_reduction,
            )
            for replica in range(self.replicas) if replicas is None else replicas:
                parts = [
                    build_batch(stores, packed, number, self.shape, part, weights)
                    for part in range(replica * self.pieces, (replica + 1) * self.pieces)
                ]
                yield parts[0] if self.pieces == 1 else _stacked(parts)


def _stacked(parts: list[Batch]) -> Batch:
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _check_items(name: str, store: TokenStore, shape: BatchShape) -> None:
    """Raises a UserError where the candidates of a query do not fit a row."""
    tokens, windows = np.diff(store.offsets[store.item_windows]), np.diff(store.item_windows)
    too_big = (tokens > shape.length) | (windows > shape.most_in_row)
    if too_big.any():
        item = int(np.argmax(np.where(too_big, tokens, 0)))
        first, past = store.item_offsets[item : item + 2]
        several = f" in {windows[item]} windows" if shape.has_windows else ""
        raise UserError(
            f"{name}/train: a query with {past - first} candidates of {tokens[item]} word pieces in "
            f"all{several} (uid {store.uids[first]}) does not fit a row, which holds "
            f"{shape.most_in_row} {'windows' if several else 'candidates'} and {shape.length} word "
            "pieces; raise batch.length"
        )

"""The mixture plan: which example comes when, as a pure function of (seed, epoch).

Nothing is drawn at random while training runs, so a position in training is one integer, every host
computes the same order, and an interrupted run continues where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtdnn_tf.experiment.samplers import SAMPLERS
from mtdnn_tf.experiment.settings import MixtureSettings


@dataclass(frozen=True)
class EpochOrder:
    """The items of one epoch in order: examples, or in a ranking task queries.

    Attributes:
        task: Position of each item's task in the list of tasks, [items] int16.
        index: Position of each item in its task's token store, [items] int32.
    """

    task: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.task)


def task_counts(
    settings: MixtureSettings, sizes: Mapping[str, int], epoch: int, epochs: int
) -> dict[str, int]:
    """How many examples of each task an epoch holds.

    The total is exact: fractions are settled by largest remainder, ties by the order of tasks.

    Args:
        settings: The mixture.
        sizes: Task name to its number of training examples.
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs of the run (`annealed` depends on it).
    """
    shares = SAMPLERS[settings.mode].shares(settings, sizes, epoch, epochs)
    if shares is None:
        return dict(sizes)
    share = np.array(shares, np.float64)
    total = settings.examples_per_epoch or sum(sizes.values())
    exact = total * share / share.sum()
    counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return dict(zip(sizes, counts.tolist(), strict=True))


def _generator(seed: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *stream])))


def _task_stream(seed: int, task: int, size: int, start: int, count: int) -> np.ndarray:
    """Entries `start` to `start + count` of a task's endless stream of permutations of its examples."""
    passes = []
    for number in range(start // size, -(-(start + count) // size)):
        passes.append(_generator(seed, 1, task, number).permutation(size).astype(np.int32))
    if not passes:
        return np.empty(0, np.int32)
    offset = start % size
    return np.concatenate(passes)[offset : offset + count]


def plan_epoch(
    settings: MixtureSettings, sizes: Mapping[str, int], seed: int, epoch: int, epochs: int
) -> list[EpochOrder]:
    """The order of examples of one epoch.

    Args:
        settings: The mixture.
        sizes: Task name to its number of training examples, all above 0.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs of the run.

    Returns:
        With `batch_by: example` one order in which all tasks are mixed; with `batch_by: task` an
        order for each task, whose batches are to be shuffled (`batch_order`).
    """
    counts = task_counts(settings, sizes, epoch, epochs)
    starts = dict.fromkeys(sizes, 0)
    for earlier in range(epoch):
        for name, count in task_counts(settings, sizes, earlier, epochs).items():
            starts[name] += count
    orders = []
    for task, (name, size) in enumerate(sizes.items()):
        index = _task_stream(seed, task, size, starts[name], counts[name])
        orders.append(EpochOrder(np.full(len(index), task, np.int16), index))
    if settings.batch_by == "task":
        return orders
    merged = np.concatenate([order.task for order in orders])
    shuffle = _generator(seed, 2, epoch).permutation(len(merged))
    index = np.concatenate([order.index for order in orders])
    return [EpochOrder(merged[shuffle], index[shuffle])]


def batch_order(seed: int, epoch: int, batches: int) -> np.ndarray:
    """The order in which an epoch's batches are visited, [batches] int64."""
    return _generator(seed, 3, epoch).permutation(batches)


def row_order(seed: int, epoch: int, stream: int, window: int, rows: int) -> np.ndarray:
    """The order of the rows packed from one window of examples, [rows] int64."""
    return _generator(seed, 4, epoch, stream, window).permutation(rows)


def in_file_order(sizes: Sequence[int]) -> EpochOrder:
    """Every example of every source once, in order (evaluation and prediction)."""
    task = np.repeat(np.arange(len(sizes), dtype=np.int16), sizes)
    index = [np.arange(size, dtype=np.int32) for size in sizes]
    return EpochOrder(task, np.concatenate(index) if index else np.empty(0, np.int32))

"""From token stores and a plan to the batches that a replica's step takes: NumPy alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtdnn_tf.data.packing import PackedEpoch
from mtdnn_tf.data.token_store import TokenStore

SLOTS_PER_EXAMPLE = 4  # A row of n slots holds at most n / 4 examples; few are that short.
Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class BatchShape:
    """The static shape of one replica's batch.

    Attributes:
        rows: Rows of the batch on one replica.
        length: Slots of a row.
        has_windows: Whether an example may be several windows.
    """

    rows: int
    length: int
    has_windows: bool = False

    @property
    def most_in_row(self) -> int:
        """Most windows in a row."""
        return max(1, self.length // SLOTS_PER_EXAMPLE)

    @property
    def examples(self) -> int:
        """Size of the axes of examples and of windows: the most a batch can hold."""
        return self.rows * self.most_in_row


def build_batch(
    stores: Sequence[TokenStore],
    packed: PackedEpoch,
    number: int,
    shape: BatchShape,
    replica: int = 0,
    example_weights: np.ndarray | None = None,
) -> Batch:
    """Builds one replica's part of a batch.

    Args:
        stores: The token store of each task position that `packed` speaks of.
        packed: The layout of the epoch.
        number: Which batch of the epoch.
        shape: Shape of a replica's part; the global batch has `packed.rows` rows.
        replica: Which part: rows `replica * shape.rows` onwards of the global batch.
        example_weights: [tasks] weight of the loss of an example of each task in this global batch;
            by default 1.

    Returns:
        `token_ids`, `type_ids`, `position_ids` (from 0 in each window), `example_ids` (the number of
        the window, from 1 in each row; 0 is an empty slot), each [rows, length] int32; for each window
        (an example is one, unless the shape has windows) `first_slot` (of the flattened slots) and
        for each example `task`, `index` (in its store; -1 where there is no example) and `group`
        (number in the batch of the first candidate of the same query; of itself in other tasks), each
        [examples] int32, `weight` (of the example's loss, which a query has at its first candidate; 0
        elsewhere) and `label` (class id or score; 0 where unknown), [examples] float32; where the
        shape has windows, also `windows`, how many each example has, [examples] int32.
    """
    first_row = int(packed.batches[number]) * packed.rows + replica * shape.rows
    starts = packed.row_starts[first_row : first_row + shape.rows + 1]
    here = slice(starts[0], starts[-1])
    slots = {
        name: np.zeros(shape.rows * shape.length, np.int32)
        for name in ("token_ids", "type_ids", "position_ids", "example_ids")
    }
    first_slot = np.zeros(shape.examples, np.int32)
    index = np.full(shape.examples, -1, np.int32)
    label = np.zeros(shape.examples, np.float32)
    group = np.arange(shape.examples, dtype=np.int32)
    indices, begins = _examples_of(stores, packed.task[here], packed.index[here])
    tasks, indices = packed.task[here][begins], indices[begins]
    count = len(tasks)
    windows = zip(
        packed.index[here].tolist(), packed.slot[here].tolist(), begins.tolist(), strict=True
    )
    position = np.arange(shape.length, dtype=np.int32)
    window, example = 0, -1
    for row in range(shape.rows):
        for number_in_row in range(1, int(starts[row + 1] - starts[row]) + 1):
            i, slot_in_row, is_new = next(windows)
            example += is_new
            store = stores[tasks[example]]
            start, end = store.offsets[i], store.offsets[i + 1]
            slot = row * shape.length + slot_in_row
            past = slot + int(end - start)
            slots["token_ids"][slot:past] = store.token_ids[start:end]
            slots["type_ids"][slot:past] = store.type_ids[start:end]
            slots["position_ids"][slot:past] = position[: past - slot]
            slots["example_ids"][slot:past] = number_in_row
            first_slot[window] = slot
            window += 1
            if not is_new:
                continue
            if store.labels is not None:
                label[example] = store.labels[indices[example]]
            if number_in_row > 1 and _same_query(store, tasks, indices, example):
                group[example] = group[example - 1]
    task = np.zeros(shape.examples, np.int32)
    task[:count] = tasks
    index[:count] = indices
    weight = np.zeros(shape.examples, np.float32)
    weight[:count] = 1.0 if example_weights is None else example_weights[tasks]
    weight[group != np.arange(shape.examples)] = 0.0
    batch = {
        **{name: flat.reshape(shape.rows, shape.length) for name, flat in slots.items()},
        "first_slot": first_slot,
        "task": task,
        "index": index,
        "group": group,
        "weight": weight,
        "label": label,
    }
    if shape.has_windows:
        of_examples = np.bincount(np.cumsum(begins) - 1, minlength=shape.examples)
        batch["windows"] = of_examples.astype(np.int32)
    return batch


def _examples_of(
    stores: Sequence[TokenStore], tasks: np.ndarray, windows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The example that each window is of, [windows] int; whether it is its first, [windows] bool."""
    examples, begins = windows.copy(), np.ones(len(windows), bool)
    for task, store in enumerate(stores):
        if store.windows is not None:
            here = tasks == task
            examples[here] = store.example_of_window[windows[here]]
            begins[here] = store.window_offsets[examples[here]] == windows[here]
    return examples, begins


def _same_query(store: TokenStore, tasks: np.ndarray, indices: np.ndarray, example: int) -> bool:
    """Whether an example is a candidate of the same query as the one before it."""
    if store.groups is None or tasks[example] != tasks[example - 1]:
        return False
    return bool(store.groups[indices[example]] == store.groups[indices[example - 1]])


def example_weights(
    stores: Sequence[TokenStore],
    packed: PackedEpoch,
    number: int,
    loss_weights: Sequence[float],
    reduction: str,
) -> np.ndarray:
    """Weight of the loss of one item of each task, so that a sum over items is the batch's loss.

    Args:
        stores: The token store of each task position that `packed` speaks of.
        packed: The layout of the epoch.
        number: Which batch of the epoch.
        loss_weights: Loss weight of each task.
        reduction: `task`: loss_weight / the number of the task's items in the global batch;
            `example`: loss_weight / the number of all items in the global batch.
    """
    first = int(packed.batches[number]) * packed.rows
    here = slice(packed.row_starts[first], packed.row_starts[first + packed.rows])
    indices, begins = _examples_of(stores, packed.task[here], packed.index[here])
    tasks, indices = packed.task[here][begins], indices[begins]
    counts = np.bincount(tasks, minlength=len(loss_weights))
    for task, store in enumerate(stores):
        if store.groups is not None:
            counts[task] = len(np.unique(store.groups[indices[tasks == task]]))
    if reduction == "example":
        counts = np.full(len(loss_weights), counts.sum())
    return (np.asarray(loss_weights) / np.maximum(counts, 1)).astype(np.float32)

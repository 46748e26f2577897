"""What every contender is given: the same tokenised examples in the same order.

Peers may run in another interpreter, so nothing but NumPy is imported here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

TURNS = 100
CLOSE = 0.03  # What tokens and slots may be off, in relation to the mean, together.


@dataclass(frozen=True)
class Workload:
    """Examples of several tasks, mixed.

    Attributes:
        token_ids: [tokens] int32, word pieces of all examples one after another.
        type_ids: [tokens] int32, 0 in the first text, 1 in the second.
        offsets: [examples + 1] int64; example i is `token_ids[offsets[i]:offsets[i + 1]]`.
        labels: [examples] int32, 0 or 1.
        tasks: [examples] int32, where each is from.
        max_length: Slots of a padded row, and of a packed one.
    """

    token_ids: np.ndarray
    type_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    tasks: np.ndarray
    max_length: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Word pieces of each example, [examples] int64."""
        return np.diff(self.offsets)

    def save(self, path: Path) -> None:
        """Writes an NPZ file."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "Workload":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{k: v if v.ndim else int(v) for k, v in arrays.items()})

    @classmethod
    def made_up(cls, examples: int, vocab_size: int, max_length: int) -> "Workload":
        """Random word pieces, in `made_up_lengths`."""
        draw = np.random.default_rng(0)
        lengths = made_up_lengths(examples, max_length)
        tokens = int(lengths.sum())
        return cls(
            draw.integers(1000, vocab_size, tokens).astype(np.int32),
            np.zeros(tokens, np.int32),
            np.concatenate([[0], np.cumsum(lengths)]),
            draw.integers(0, 2, examples).astype(np.int32),
            np.zeros(examples, np.int32),
            max_length,
        )

    def batches(self, size: int, turn: int, *, grouped: bool = False) -> Iterator[np.ndarray]:
        """Yields positions of examples, `size` at a time, without end.

        A batch is of one task, as with everybody who does not pack: examples of one task are alike
        in length. So a few batches by chance are longer or shorter than an epoch's; those of a turn
        are instead the first of ten thousand draws whose tokens and padded slots are `CLOSE` to the
        mean of an epoch, or the closest. They are others in each of `TURNS` turns, and the same for
        all who call this.

        Args:
            size: Examples of a batch.
            turn: Batches of a turn; before the first turn comes a batch for the first step.
            grouped: Sort within 50 batches by length, as `group_by_length` of transformers does.
        """
        draw = np.random.default_rng(0)
        of_tasks = []
        for task in np.unique(self.tasks):
            order = draw.permutation(np.flatnonzero(self.tasks == task))
            if grouped:
                pools = np.array_split(order, range(50 * size, len(order), 50 * size))
                order = np.concatenate([p[np.argsort(-self.lengths[p])] for p in pools])
            of_tasks.append(order[: len(order) // size * size].reshape(-1, size))
        batches = np.concatenate(of_tasks)
        lengths = self.lengths[batches]
        sizes = np.stack([lengths.sum(1), size * lengths.max(1)], axis=1)
        yield batches[draw.integers(len(batches))]
        turns = []  # All are drawn in the warm-up, which is not measured.
        for _ in range(TURNS):
            draws = draw.integers(len(batches), size=(10_000, turn))
            errors = np.abs(sizes[draws].mean(1) / sizes.mean(0) - 1).sum(1)
            close = errors <= max(CLOSE, errors.min())
            turns.append(draws[close.argmax()])
        yield from cycle(batches[np.concatenate(turns)])

    def padded(self, chosen: np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        """A padded batch: `token_ids`, `type_ids`, `mask` [examples, length], `labels` [examples].

        Args:
            chosen: Positions of the examples.
            length: Slots of a row; by default as many as the longest example has.
        """
        lengths = self.lengths[chosen]
        slots = np.arange(length or lengths.max())
        mask = slots < lengths[:, None]
        where = np.where(mask, self.offsets[chosen][:, None] + slots, 0)
        return {
            "token_ids": np.where(mask, self.token_ids[where], 0).astype(np.int32),
            "type_ids": np.where(mask, self.type_ids[where], 0).astype(np.int32),
            "mask": mask.astype(np.int32),
            "labels": self.labels[chosen],
        }


def made_up_lengths(examples: int, max_length: int) -> np.ndarray:
    """Lengths like those of a mix of GLUE tasks, a mean of 27 and a long tail: [examples] int64."""
    lengths = np.random.default_rng(0).lognormal(3.07, 0.65, examples)
    return np.clip(lengths, 5, max_length).astype(np.int64)


def forward_flops(
    config: dict[str, int], lengths: np.ndarray, *, last_of_first: bool = False
) -> float:
    """Floating-point operations of the encoder's matrix products on real tokens only.

    Args:
        config: `num_layers`, `hidden_size` and `intermediate_size`.
        lengths: Word pieces of the examples.
        last_of_first: The last layer is computed for the first token of each example alone.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    lengths = lengths.astype(np.float64)
    tokens, examples = lengths.sum(), len(lengths)
    query_and_rest = 2 * (2 * hidden**2 + 2 * hidden * inner)
    key_and_value = 2 * 2 * hidden**2
    layer = (query_and_rest + key_and_value) * tokens + 4 * hidden * (lengths**2).sum()
    last = query_and_rest * examples + (key_and_value + 4 * hidden) * tokens
    layers = config["num_layers"]
    return float((layers - 1) * layer + last if last_of_first else layers * layer)

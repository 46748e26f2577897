"""What the examples of a store are called, without a string for each of them: NumPy alone."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np

from mtdnn_tf.data.ranges import ranges

_PIECE = 4096


class Uids(Sequence[str]):
    """Strings as UTF-8, one after another; the arrays may be memory-mapped.

    Args:
        data: [bytes] uint8.
        offsets: [n + 1] int64; string i is `data[offsets[i]:offsets[i + 1]]`.
    """

    def __init__(self, data: np.ndarray, offsets: np.ndarray) -> None:
        self.data, self.offsets = data, offsets

    @classmethod
    def of(cls, names: Sequence[str]) -> "Uids":
        """The strings of a list."""
        encoded = [name.encode() for name in names]
        lengths = np.array([len(name) for name in encoded], np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _PIECE):
            offsets = self.offsets[start : start + _PIECE + 1].tolist()
            data = self.data[offsets[0] : offsets[-1]].tobytes()
            for first, past in pairwise(offsets):
                yield data[first - offsets[0] : past - offsets[0]].decode()

    @overload
    def __getitem__(self, position: int) -> str: ...

    @overload
    def __getitem__(self, position: slice | np.ndarray) -> "Uids": ...

    def __getitem__(self, position: Any) -> Any:
        """One string, or those at some positions, [n] int or a slice."""
        starts = self.offsets[:-1][position]
        lengths = self.offsets[1:][position] - starts
        if not np.ndim(starts):
            return self.data[starts : starts + lengths].tobytes().decode()
        data = self.data[ranges(starts, lengths)]
        return Uids(data, np.concatenate([[0], np.cumsum(lengths)]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """[n] str."""
        return np.array(list(self), dtype or np.str_)

    def tolist(self) -> list[str]:
        """The strings."""
        return list(self)

    def joined(self, others: "Uids") -> "Uids":
        """These strings and others after them."""
        data = np.concatenate([self.data, others.data])
        return Uids(data, np.concatenate([self.offsets, self.offsets[-1] + others.offsets[1:]]))

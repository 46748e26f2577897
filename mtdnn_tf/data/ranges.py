"""Ranges of positions, one after another."""

import numpy as np


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """`starts[0], starts[0] + 1, ...`, then those from `starts[1]` on, ...: [sum of sizes] int64.

    Args:
        starts: [n] int, the first of each range.
        sizes: [n] int, how many are in each.
    """
    before = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) + np.repeat(starts - before, sizes)

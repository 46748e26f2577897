"""Sections: the equal parts of a row that most examples stay within.

Attention compares every slot of a section with every other one. Packing puts most examples into the
shortest section that holds them, so that most rows can be taken for several shorter ones.
"""

SHORTEST = 64


def section_lengths(row_length: int) -> list[int]:
    """Lengths that a row can be divided into: its own, the half, the quarter, ..., longest first.

    Args:
        row_length: Slots of a row. Sections have at least `SHORTEST` slots.
    """
    lengths = [row_length]
    while lengths[-1] % 2 == 0 and lengths[-1] // 2 >= SHORTEST:
        lengths.append(lengths[-1] // 2)
    return lengths

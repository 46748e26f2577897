"""What a cell of a file says of a label."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TypeVar

T = TypeVar("T")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)  # As JSON writes it.


def equal_to(names: Mapping[str, T]) -> Callable[[str], T | None]:
    """Returns a function from a cell to what its name stands for, or None.

    A cell and a name that are both written as numbers are equal where the numbers are: pandas makes
    `1.0` of 1 where a value is missing.
    """
    numbers: dict[Decimal, list[T]] = {}
    for name, value in names.items():
        if (number := _number(name)) is not None:
            numbers.setdefault(number, []).append(value)
    single = {number: values[0] for number, values in numbers.items() if len(values) == 1}

    def find(cell: str) -> T | None:
        if cell in names:
            return names[cell]
        number = _number(cell) if single else None
        return None if number is None else single.get(number)

    return find


def _number(cell: str) -> Decimal | None:
    """The number that a cell is written as, if it is one, and not too large to be told."""
    try:
        return Decimal(cell) if _NUMBER.fullmatch(cell) else None
    except InvalidOperation:
        return None

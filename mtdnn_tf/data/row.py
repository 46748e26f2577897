"""One row of a source."""

from typing import NamedTuple


class BadRow(Exception):
    """Why a row can't be used, and what was expected."""


class Row(NamedTuple):
    """Texts in the order of the task's fields, a class id or score (or 0), a uid (or '')."""

    texts: list[str]
    label: float
    uid: str

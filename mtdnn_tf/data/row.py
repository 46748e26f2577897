"""One row of a source."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mtdnn_tf.errors import did_you_mean


class BadRow(Exception):
    """Why a row can't be used, and what was expected."""


class Row(NamedTuple):
    """Texts in the order of the task's fields, a class id or score (or 0), a uid (or '')."""

    texts: list[str]
    label: float
    uid: str


def value_of(row: Mapping[str, Any], name: str, key: str) -> Any:
    """The value of a key, which stands for the field `name`.

    Raises:
        BadRow: The row lacks it.
    """
    if key not in row:
        raise BadRow(f"no key {key!r} for {name}{did_you_mean(key, row)}")
    return row[key]


def shown(value: Any) -> str:
    """A value as a message shows it, cut off where it is long."""
    return json.dumps(value, default=str)[:40]

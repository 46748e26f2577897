"""One row of a source."""

import json
from typing import Any, NamedTuple

from mtdnn_tf.errors import did_you_mean


class BadRow(Exception):
    """Why a row can't be used, and what was expected."""


class Row(NamedTuple):
    """Texts in the order of the task's fields, a class id or score (or 0), a uid (or '')."""

    texts: list[str]
    label: float
    uid: str


def json_object(line: str) -> dict[str, Any]:
    """Reads a line that holds a JSON object.

    Raises:
        BadRow: It does not.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise BadRow(f"not a JSON object: {line[:40]}")
    return row


def value_of(row: dict[str, Any], name: str, key: str) -> Any:
    """The value of a key, which stands for the field `name`.

    Raises:
        BadRow: The row lacks it.
    """
    if key not in row:
        raise BadRow(f"no key {key!r} for {name}{did_you_mean(key, row)}")
    return row[key]

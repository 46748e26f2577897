"""One row of a source."""

import hashlib
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from mtdnn_tf.errors import did_you_mean

MOST_UID_CHARACTERS = 200


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


def cell_of(key: str, value: object, *, allow_number: bool) -> str:
    """The value of a key as a table's cell would have it.

    Args:
        key: The key, for messages.
        value: Its value.
        allow_number: Whether it may be a number or a truth value as well as a string.

    Raises:
        BadRow: It is none of them, or is no Unicode text.
    """
    if allow_number and isinstance(value, bool):
        return "true" if value else "false"
    if allow_number and isinstance(value, int | float | Decimal) and not math.isnan(value):
        return str(int(value) if math.isfinite(value) and value == int(value) else value)
    if not isinstance(value, str):
        expected = "a string or a number" if allow_number else "a string"
        raise BadRow(f"{key} is {shown(value)}, expected {expected}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow(f"{key} has half a surrogate pair, expected Unicode text") from None
    return value


def check_uid(uid: str) -> None:
    """Raises a BadRow where a row cannot be called so."""
    if not uid:
        raise BadRow("uid is empty")
    if len(uid) > MOST_UID_CHARACTERS or not uid.isprintable():
        raise BadRow(
            f"uid {uid[:40]!r}: expected {MOST_UID_CHARACTERS} characters at most, all printable"
        )


def hash_of(text: str) -> bytes:
    """16 bytes that stand for a text: different texts have different ones."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def shown(value: Any) -> str:
    """A value as a message shows it, cut off where it is long."""
    return json.dumps(value, default=str)[:40]

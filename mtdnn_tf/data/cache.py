"""The folder that token stores are kept in."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from mtdnn_tf.errors import UserError
from mtdnn_tf.files import local_path

# A store, or one that a killed process left half-written.
_STORE = re.compile(r"(?P<split>.+)-[0-9a-f]{16}(?P<partial>\.partial-\d+)?")


class Entry(NamedTuple):
    """A token store in the cache.

    Attributes:
        name: Task and split.
        folder: Where it is.
        made: When it was made, in seconds since 1970.
        bytes: Its size.
    """

    name: str
    folder: Path
    made: float
    bytes: int


def default_cache_dir() -> Path:
    """`$MTDNN_CACHE_DIR`, else `~/.cache/mtdnn_tf` (or below `$XDG_CACHE_HOME`).

    Raises:
        UserError: The variable says no local folder.
    """
    for name, below in (("MTDNN_CACHE_DIR", ""), ("XDG_CACHE_HOME", "mtdnn_tf")):
        if value := os.environ.get(name):
            try:
                return Path(local_path(value)) / below
            except ValueError as error:
                raise UserError(f"${name} is {value!r}: {error}") from None
    return Path.home() / ".cache" / "mtdnn_tf"


def entries(cache_dir: Path) -> list[Entry]:
    """The stores of a cache, the largest first; other folders are none."""
    found = []
    for folder in cache_dir.iterdir() if cache_dir.is_dir() else ():
        match = _STORE.fullmatch(folder.name)
        if match and any((folder / name).is_file() for name in ("meta.json", "token_ids.bin")):
            size = sum(path.stat().st_size for path in folder.iterdir())
            name = match["split"] + (" (half-written)" if match["partial"] else "")
            found.append(Entry(name, folder, folder.stat().st_mtime, size))
    return sorted(found, key=lambda entry: -entry.bytes)

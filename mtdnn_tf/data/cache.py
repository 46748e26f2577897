"""The folder that token stores are kept in."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mtdnn_tf.errors import UserError
from mtdnn_tf.files import local_path

# A store, or one that a killed process left half-written.
_STORE = re.compile(r"(?P<split>.+)-[0-9a-f]{16}(?P<partial>\.partial-[0-9a-f]+)?")
# Other folders, as of soft targets, have a `meta.json` as well.
_ARRAYS = ("token_ids.*", "offsets.*")
_SECONDS_OF_WORK = 600  # What is half-written and was changed since then is still being written.


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
        UserError: The variable has no local path.
    """
    for name, below in (("MTDNN_CACHE_DIR", ""), ("XDG_CACHE_HOME", "mtdnn_tf")):
        if folder := os.environ.get(name):
            try:
                return Path(local_path(folder)) / below
            except ValueError as error:
                raise UserError(f"${name}: {error}") from error
    return Path.home() / ".cache" / "mtdnn_tf"


def entries(cache_dir: Path) -> list[Entry]:
    """The stores of a cache, the largest first, without those that are being written.

    Other folders are none.
    """
    found = []
    for folder in cache_dir.iterdir() if cache_dir.is_dir() else ():
        with suppress(FileNotFoundError):  # Another process may remove it meanwhile.
            found += _entry(folder)
    return sorted(found, key=lambda entry: -entry.bytes)


def _entry(folder: Path) -> list[Entry]:
    """The entry of a folder, if it is a store."""
    match = _STORE.fullmatch(folder.name)
    if not match or not any(path for names in _ARRAYS for path in folder.glob(names)):
        return []
    states = [path.stat() for path in folder.iterdir()]
    changed = max(state.st_mtime for state in states)
    if match["partial"] and time.time() - changed < _SECONDS_OF_WORK:
        return []
    name = match["split"] + (" (half-written)" if match["partial"] else "")
    size = sum(state.st_size for state in states)
    return [Entry(name, folder, folder.stat().st_mtime, size)]

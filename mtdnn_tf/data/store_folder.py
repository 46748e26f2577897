"""Token stores on disk: flat arrays, with a description that has their shapes and hashes."""

import errno
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.data.uids import Uids
from mtdnn_tf.files import replaced

DESCRIPTION = "meta.json"
_DTYPES = {
    "token_ids": "<i4",
    "type_ids": "<i4",
    "offsets": "<i8",
    "uid_bytes": "|u1",
    "uid_offsets": "<i8",
    "whole_lengths": "<i4",
    "is_cut": "|b1",
    "labels": "<f4",
    "groups": "<i4",
    "windows": "<i8",
}
_NOT_ALWAYS = {"labels", "groups", "windows"}


class Damaged(Exception):
    """What is wrong with a store."""


class _Array(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: NonNegativeInt
    sha256: str


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    skipped: int
    remark: str
    arrays: dict[str, _Array]


class StoreWriter:
    """Writes the arrays of a store into a folder, a piece at a time.

    Args:
        folder: The folder, which is there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[str, _Array] = {}

    @contextmanager
    def appending(self, *names: str) -> Iterator[list["ArrayFile"]]:
        """Opens arrays to append to; they are described when the block ends."""
        files = [ArrayFile(self._folder, name) for name in names]
        try:
            yield files
        finally:
            for file in files:
                file.close()
        self._arrays |= {name: file.description() for name, file in zip(names, files, strict=True)}

    def add(self, name: str, array: np.ndarray) -> None:
        """Writes a whole array."""
        with self.appending(name) as (file,):
            file.append(array)

    @contextmanager
    def replacing(self, name: str) -> Iterator["ArrayFile"]:
        """Opens an array anew, while the one before can still be read."""
        _path(self._folder, name).unlink()
        with self.appending(name) as (file,):
            yield file

    def read(self, name: str) -> np.ndarray:
        """An array that was written, memory-mapped."""
        return _mapped(self._folder, name, self._arrays[name])

    def finish(self, key: str, skipped: int, remark: str) -> None:
        """Writes the description."""
        description = _Description(key=key, skipped=skipped, remark=remark, arrays=self._arrays)
        (self._folder / DESCRIPTION).write_text(description.model_dump_json(indent=1), "utf-8")


class ArrayFile:
    """A file of one array, with its hash.

    Args:
        folder: The folder of the store.
        name: Name of the array.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._dtype, self._file = np.dtype(_DTYPES[name]), _path(folder, name).open("wb")
        self._digest, self._size = hashlib.sha256(), 0

    def append(self, values: np.ndarray) -> None:
        """Adds [n] values at the end."""
        data = np.ascontiguousarray(values, self._dtype).view(np.uint8).data
        self._file.write(data)
        self._digest.update(data)
        self._size += len(values)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def description(self) -> _Array:
        """Size and hash of what was written."""
        return _Array(size=self._size, sha256=self._digest.hexdigest())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write a store into, which gets its name when the block ends well.

    Where another process was first, its store stays: it is the same.
    """
    try:
        with replaced(folder) as partial:
            partial.mkdir()
            yield partial
    except OSError as error:
        taken = error.errno in (errno.EEXIST, errno.ENOTEMPTY) and str(error.filename2) == str(
            folder
        )
        if not (taken and folder.is_dir()):
            raise


def remove_store(folder: Path) -> None:
    """Removes a store; another process never finds half of it."""
    aside = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex}")
    with suppress(OSError):  # Another process was first.
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def read_store(folder: Path) -> TokenStore:
    """Reads a store; its arrays are memory-mapped.

    Raises:
        Damaged: A file is missing, or is not what the description says.
    """
    try:
        text = (folder / DESCRIPTION).read_text("utf-8")
        description = _Description.model_validate_json(text)
        if not set(_DTYPES) - _NOT_ALWAYS <= set(description.arrays) <= set(_DTYPES):
            raise Damaged(f"{DESCRIPTION} lists {', '.join(description.arrays)}")
        arrays: dict[str, Any] = {
            name: _checked(folder, name, of) for name, of in description.arrays.items()
        }
    except ValidationError as error:
        raise Damaged(f"{DESCRIPTION}: {error.errors()[0]['msg']}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(str(error)) from None
    _check_sizes(arrays)
    return TokenStore(
        labels=arrays.pop("labels", None),
        uids=Uids(arrays.pop("uid_bytes"), arrays.pop("uid_offsets")),
        **arrays,
        key=description.key,
        skipped=description.skipped,
        remark=description.remark,
    )


def _checked(folder: Path, name: str, array: _Array) -> np.ndarray:
    path = _path(folder, name)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != array.sha256:
            raise Damaged(f"{path.name} is not what was written")
        if file.tell() != array.size * np.dtype(_DTYPES[name]).itemsize:
            raise Damaged(f"{DESCRIPTION} lists {array.size} values of {path.name}")
    return _mapped(folder, name, array)


def _check_sizes(arrays: dict[str, np.ndarray]) -> None:
    """Raises Damaged where arrays of a store do not belong together."""
    sizes = {name: len(array) for name, array in arrays.items()}
    examples = sizes["uid_offsets"] - 1
    windows = int(arrays["windows"].sum()) if "windows" in arrays else examples
    expected = {
        "offsets": windows + 1,
        "token_ids": arrays["offsets"][-1] if sizes["offsets"] else -1,
        "type_ids": sizes["token_ids"],
        "uid_bytes": arrays["uid_offsets"][-1] if sizes["uid_offsets"] else -1,
        **dict.fromkeys(("whole_lengths", "is_cut", "labels", "groups", "windows"), examples),
    }
    for name, size in sizes.items():
        if size != expected.get(name, size):
            raise Damaged(f"{name} has {size} values, expected {expected[name]}")


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.bin"


def _mapped(folder: Path, name: str, array: _Array) -> np.ndarray:
    if not array.size:  # Nothing cannot be mapped.
        return np.empty(0, _DTYPES[name])
    return np.memmap(_path(folder, name), _DTYPES[name], mode="r", shape=(array.size,))

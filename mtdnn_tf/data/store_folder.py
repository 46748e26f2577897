"""Token stores on disk: flat arrays, with a description that has their shapes and hashes."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from mtdnn_tf.data.token_store import TokenStore

DESCRIPTION = "meta.json"
_ALWAYS = {"token_ids", "type_ids", "offsets", "uids", "whole_lengths", "is_cut"}
_ARRAYS = _ALWAYS | {"labels", "groups", "windows"}


class Damaged(Exception):
    """What is wrong with a store."""


class _Array(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: str
    shape: tuple[int]
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
        """Opens arrays of int32 to append to; they are described when the block ends."""
        files = [ArrayFile(self._folder / f"{name}.bin") for name in names]
        try:
            yield files
        finally:
            for file in files:
                file.close()
        self._arrays |= {name: file.description() for name, file in zip(names, files, strict=True)}

    def add(self, name: str, array: np.ndarray) -> None:
        """Writes a whole array."""
        file = ArrayFile(self._folder / f"{name}.bin", array.dtype)
        file.append(array)
        file.close()
        self._arrays[name] = file.description()

    @contextmanager
    def replacing(self, name: str) -> Iterator["ArrayFile"]:
        """Opens an array anew, while the one before can still be read."""
        path = self._folder / f"{name}.bin"
        path.unlink()
        with self.appending(name) as (file,):
            yield file

    def read(self, name: str) -> np.ndarray:
        """An array that was written, memory-mapped."""
        return _mapped(self._folder / f"{name}.bin", self._arrays[name])

    def finish(self, key: str, skipped: int, remark: str) -> None:
        """Writes the description."""
        description = _Description(key=key, skipped=skipped, remark=remark, arrays=self._arrays)
        (self._folder / DESCRIPTION).write_text(description.model_dump_json(indent=1), "utf-8")


class ArrayFile:
    """A file of one array, with its hash.

    Args:
        path: The file.
        dtype: Of its values.
    """

    def __init__(self, path: Path, dtype: np.dtype | type = np.int32) -> None:
        self._dtype, self._file = np.dtype(dtype), path.open("wb")
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
        """Shape and hash of what was written."""
        return _Array(dtype=self._dtype.str, shape=(self._size,), sha256=self._digest.hexdigest())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write a store into, which gets its name when the block ends well.

    Where another process was first, its store stays: it is the same.
    """
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_store(folder: Path) -> TokenStore:
    """Reads a store; its arrays are memory-mapped.

    Raises:
        Damaged: A file is missing, or is not what the description says.
    """
    try:
        text = (folder / DESCRIPTION).read_text("utf-8")
        description = _Description.model_validate_json(text)
        if not _ALWAYS <= set(description.arrays) <= _ARRAYS:
            raise Damaged(f"{DESCRIPTION} lists {', '.join(description.arrays)}")
        arrays: dict[str, Any] = {
            name: _checked(folder, name, of) for name, of in description.arrays.items()
        }
    except ValidationError as error:
        raise Damaged(f"{DESCRIPTION}: {error.errors()[0]['msg']}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(str(error)) from None
    return TokenStore(
        labels=arrays.pop("labels", None),
        **arrays,
        key=description.key,
        skipped=description.skipped,
        remark=description.remark,
    )


def _checked(folder: Path, name: str, array: _Array) -> np.ndarray:
    path = folder / f"{name}.bin"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != array.sha256:
            raise Damaged(f"{path.name} is not what was written")
    return _mapped(path, array)


def _mapped(path: Path, array: _Array) -> np.ndarray:
    if array.shape == (0,):  # Nothing cannot be mapped.
        return np.empty(0, array.dtype)
    return np.memmap(path, array.dtype, mode="r", shape=array.shape)

"""Local paths, and files that are either whole or as they were before."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtdnn_tf.errors import UserError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def local_path(text: str) -> str:
    """A path that a user wrote, with `~` or `~user` at its beginning replaced by the home folder.

    Raises:
        ValueError: It is empty, of a user that there is not, or the address of something that is not
            a local file.
    """
    if not text:
        raise ValueError("expected a path, found none")
    if found := SCHEME.match(text):
        raise ValueError(f"only local files and folders are taken, no {found[0]}")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError("there is no such user; a name that begins with ~ is written ./~")
    return path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A name to write a file or a folder under, which gets its own name when the block ends well.

    A file takes the place of an older one; a folder does not, unless that is empty. Whatever happens,
    nothing is left under the other name, but by a process that is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex}")
    try:
        yield partial
        for file in partial.rglob("*") if partial.is_dir() else (partial,):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        partial.replace(path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def write_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Writes a UTF-8 text file under a temporary name, then renames it.

    Args:
        path: The file; its folder is made.
        text: What it is to hold.
        private: Whether nobody but its owner may read it.

    Raises:
        UserError: It cannot be written, such as on a full disk or because of a character that UTF-8
            does not have; nothing is left of it.
    """
    try:
        with replaced(path) as partial:
            partial.touch(0o600 if private else 0o666)
            partial.write_text(text, encoding="utf-8", newline="\n")
    except (OSError, UnicodeEncodeError) as error:
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', error)}") from error

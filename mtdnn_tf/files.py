"""Local paths, and files that are either whole or as they were before."""

import os
import re
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
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(0o600 if private else 0o666)
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except (OSError, UnicodeEncodeError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', error)}") from error

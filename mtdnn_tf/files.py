"""Files that are either whole or as they were before."""

import os
from pathlib import Path

from mtdnn_tf.errors import UserError


def write_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Writes a UTF-8 text file under a temporary name, then renames it.

    Args:
        path: The file; its folder is made.
        text: What it is to hold.
        private: Whether nobody but its owner may read it.

    Raises:
        UserError: It cannot be written, such as on a full disk; nothing is left of it.
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(0o600 if private else 0o666)
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error

"""Where an encoder's folder came from, and exactly what was in it."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_STORED = re.compile(r"models--(.+)")


class Snapshot(NamedTuple):
    """What the hub's cache holds a folder as.

    Attributes:
        model: The model's name, such as `google-bert/bert-base-uncased`.
        commit: The commit.
    """

    model: str
    commit: str


def hub_snapshot(folder: Path) -> Snapshot | None:
    """Whose snapshot a folder of the hub's cache is; None for any other folder.

    >>> hub_snapshot(Path("hub/models--google-bert--bert-base-cased/snapshots/cd5ef9"))
    Snapshot(model='google-bert/bert-base-cased', commit='cd5ef9')
    """
    *_, model, snapshots, commit = ("", "", *folder.absolute().parts)
    stored = _STORED.fullmatch(model)
    if stored is None or snapshots != "snapshots":
        return None
    return Snapshot(stored[1].replace("--", "/", 1), commit)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_source(name: str, folder: Path, files: Iterable[Path]) -> dict[str, object]:
    """What a run keeps of where its encoder came from: `encoder/source.json`.

    Args:
        name: What the encoder was asked for as.
        folder: Where it was found.
        files: Those that were read.

    Returns:
        `pretrained`, `commit` of the hub or None, and `files`, name to SHA-256.
    """
    snapshot = hub_snapshot(folder)
    return {
        "pretrained": name,
        "commit": snapshot.commit if snapshot else None,
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(files)},
    }

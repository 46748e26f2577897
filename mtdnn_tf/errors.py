"""Mistakes of the user, told in one line."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Something the user gave is wrong; the message names what, where and what was expected.

    The binaries print the message alone, without a stack trace, and exit with code 1.
    """


def near(name: str, choices: Iterable[str]) -> str:
    """Returns `"; did you mean 'a' or 'b'?"`, or nothing where no name is near.

    Args:
        name: What the user wrote.
        choices: The names that exist.
    """
    found = difflib.get_close_matches(name, sorted(choices), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Returns `"; did you mean 'a' or 'b'?"`, or the known names where none is near.

    Args:
        name: What the user wrote.
        choices: The names that exist.
    """
    known = sorted(choices)
    return near(name, known) or ("; known: " + ", ".join(known) if known else "")


def did_you_mean_file(path: Path) -> str:
    """Returns `"; did you mean 'a.tsv'?"` where the folder has a file of a name near that of `path`."""
    try:
        names = [entry.name for entry in path.absolute().parent.iterdir()]
    except OSError:
        return f"; there is no folder {path.parent}"
    return near(path.name, names)

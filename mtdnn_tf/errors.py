"""Mistakes of the user, told in one line."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Something the user gave is wrong; the message names what, where and what was expected.

    The binaries print the message alone, without a stack trace, and exit with code 1.
    """


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Returns `"; did you mean 'a' or 'b'?"`, or the known names where none is near.

    Args:
        name: What the user wrote.
        choices: The names that exist.
    """
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "; known: " + ", ".join(known) if known else ""


def did_you_mean_file(path: Path) -> str:
    """Returns `"; did you mean 'a.tsv'?"` where the folder has a file of a name near that of `path`."""
    try:
        names = [entry.name for entry in path.absolute().parent.iterdir()]
    except OSError:
        return f"; there is no folder {path.parent}"
    hint = did_you_mean(path.name, names)
    return hint if hint.startswith("; did you mean") else ""

"""Whether an encoder's text is lower-cased, where no file of its tokenizer says it."""

import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"(?<![a-z])(un)?cased(?![a-z])", re.IGNORECASE)
_SPECIAL = re.compile(r"\[.*\]|<.*>")
# Of the pieces with letters that have a case, the part with capitals in a vocabulary for cased text.
# BERT's have a third; a few may have got into an uncased one by hand.
_CASED_PART = 0.1


def casing(names: Iterable[tuple[str, str]], vocab: Sequence[str]) -> tuple[bool, str] | None:
    """Finds out whether text is lower-cased, from names, or else from the vocabulary itself.

    >>> casing([("bert-base-uncased", "the folder's name")], [])
    (True, "the folder's name 'bert-base-uncased'")
    >>> casing([("showcased", "the folder's name")], ["The", "the", "cat"])
    (False, 'its vocabulary: 1 of 3 pieces have capitals')

    Args:
        names: Names that may have the word `cased` or `uncased`, and what each is the name of; the
            first goes before the others.
        vocab: The pieces. Where none has a capital, only lower-cased text has pieces.

    Returns:
        Whether it is, and what says so; None where nothing does.
    """
    for name, what in names:
        found = {match[1] is not None for match in _WORD.finditer(name)}
        if len(found) == 1:
            return found.pop(), f"{what} {name!r}"
    pieces = [piece for piece in vocab if not _SPECIAL.fullmatch(piece)]
    lettered = [piece for piece in pieces if piece.lower() != piece.upper()]
    capitals = sum(piece != piece.lower() for piece in lettered)
    if lettered and not capitals:
        return True, "its vocabulary: no piece has a capital"
    if lettered and capitals >= _CASED_PART * len(lettered):
        return False, f"its vocabulary: {capitals:,} of {len(lettered):,} pieces have capitals"
    return None

"""The word pieces of a BERT: `vocab.txt`, UTF-8, one piece a line."""

from collections.abc import Sequence
from pathlib import Path

from mtdnn_tf.errors import UserError

VOCAB_FILE = "vocab.txt"
SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def read_vocab(path: Path) -> tuple[str, ...]:
    """Reads a `vocab.txt`; a piece's id is the number of its line, from 0.

    Raises:
        UserError: The file can't be read, or what it holds is no vocabulary.
    """
    try:
        # Not splitlines(): vocabularies hold pieces such as U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path}: can't read the vocabulary ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    if lines[-1] == "":
        lines.pop()
    try:
        check_vocab(lines)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return tuple(lines)


def check_vocab(vocab: Sequence[str]) -> None:
    """Looks for what makes a vocabulary unusable.

    Raises:
        UserError: It lacks [PAD], [UNK], [CLS] or [SEP], or has an empty piece, one with a line end
            (which `vocab.txt` could not hold), or one twice.
    """
    missing = [piece for piece in SPECIAL_PIECES if piece not in vocab]
    if missing:
        raise UserError(f"the vocabulary lacks {', '.join(missing)}")
    first: dict[str, int] = {}
    for position, piece in enumerate(vocab):
        if not piece:
            raise UserError(f"the vocabulary's piece {position} is empty")
        if "\n" in piece or "\r" in piece:
            raise UserError(f"the vocabulary's piece {position} has a line end: {piece!r}")
        if first.setdefault(piece, position) != position:
            raise UserError(
                f"the vocabulary has {piece!r} twice, as pieces {first[piece]} and {position}"
            )

"""The tokenizer that an encoder was trained with, made out from its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained.casing import casing
from mtdnn_tf.pretrained.config_file import read_json
from mtdnn_tf.pretrained.formats import format_of
from mtdnn_tf.pretrained.source import hub_snapshot
from mtdnn_tf.pretrained.tokenizer_files import TokenizerFiles, read_tokenizer_files
from mtdnn_tf.tokenizers.tokenizer import Tokenizer
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer


@dataclass(frozen=True)
class FolderTokenizer:
    """The tokenizer of a folder.

    Attributes:
        vocab: The pieces; a piece's id is its position.
        settings: `lower_case`, `strip_accents` and `tokenize_chinese_chars`, as `BertTokenizer`
            takes them.
        notes: What was taken from where, a line each.
    """

    vocab: tuple[str, ...]
    settings: dict[str, Any]
    notes: tuple[str, ...]

    def make(self, **cutting: Any) -> Tokenizer:
        """The tokenizer itself; `cutting` is what else `BertTokenizer` takes."""
        return BertTokenizer(self.vocab, **self.settings, **cutting)


def read_tokenizer(folder: str | Path, lower_case: bool | None = None) -> FolderTokenizer:
    """Reads the tokenizer of a folder in any of the layouts.

    Args:
        folder: The folder.
        lower_case: Whether text is lower-cased; None finds it out. The tokenizer's files say it, or
            the folder's name, or the name that the encoder's file has, or the vocabulary itself.

    Raises:
        UserError: A file can't be read; there are more pieces than rows in the table of embeddings;
            the tokenizer is not BERT's; or nothing tells whether text is lower-cased.
    """
    folder = Path(folder)
    found = format_of(folder)
    files = read_tokenizer_files(folder)
    pieces, rows = len(files.vocab), found.load_config(folder).vocab_size
    config_file = found.config_file(folder)
    if pieces > rows:
        raise UserError(
            f"{files.vocab_file}: {pieces} word pieces; expected vocab_size {rows} "
            f"({config_file.name}) or fewer"
        )
    evidence = "encoder.lower_case"
    if lower_case is None:
        lower_case, evidence = _lower_case(folder, config_file, files)
    notes = [f"lower_case: {_yaml(lower_case)}, from {evidence}", *files.notes]
    settings = {
        "lower_case": lower_case,
        "strip_accents": lower_case,
        "tokenize_chinese_chars": True,
    }
    for name, (value, source) in files.said.items():
        if name != "lower_case" and value not in (None, settings[name]):
            settings[name] = bool(value)
            notes.append(f"{name}: {_yaml(value)}, from {source}")
    if pieces < rows:
        unused = f"{rows - pieces:,} rows are" if rows - pieces > 1 else "1 row is"
        notes.append(f"vocabulary has {pieces:,} pieces, the table {rows:,} rows; {unused} unused")
    return FolderTokenizer(files.vocab, settings, tuple(notes))


def _lower_case(folder: Path, config_file: Path, files: TokenizerFiles) -> tuple[bool, str]:
    """Whether text is lower-cased, and what says so."""
    if "lower_case" in files.said:
        value, file = files.said["lower_case"]
        return bool(value), file
    config = read_json(config_file) if config_file.suffix == ".json" else {}
    if isinstance(value := config.get("do_lower_case"), bool):
        return value, config_file.name
    snapshot = hub_snapshot(folder)
    names = [(snapshot.model if snapshot else folder.resolve().name, "the model's name")]
    if isinstance(name := config.get("_name_or_path"), str):
        names.append((name, f"_name_or_path of {config_file.name}"))
    found = casing([(Path(name).name, what) for name, what in names], files.vocab)
    if found is None:
        raise UserError(
            f"{folder}: neither a file of its tokenizer nor its name nor its vocabulary tells whether "
            "text is lower-cased; set encoder.lower_case (of the converter: --lower_case) to true or "
            "false"
        )
    return found


def _yaml(value: bool | None) -> str:
    return str(value).lower()

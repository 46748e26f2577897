"""Rows of TSV files (no quoting, as in GLUE) and of JSON lines."""

from collections.abc import Iterator
from pathlib import Path

from mtdnn_tf.data.row import BadRow, Row
from mtdnn_tf.data.row_format import row_parser
from mtdnn_tf.errors import UserError, did_you_mean_file
from mtdnn_tf.tasks.spec import SplitSpec, TaskSpec

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_file(
    task: TaskSpec, spec: SplitSpec, path: Path, purpose: str
) -> Iterator[tuple[str, list[Row] | BadRow]]:
    """Yields where each row stands (`file:line`), and what it holds or why it is bad.

    Args:
        task: The task.
        spec: The layout of the split.
        path: One of its files.
        purpose: What an error begins with where the file cannot be read.

    Raises:
        UserError: The file is missing, has no rows, or its header is not the task's.
    """
    lines = _lines(read_bytes(path, purpose))
    header_lines = 1 if spec.header and not spec.is_jsonl else 0
    if len(lines) <= header_lines:
        raise UserError(f"{purpose}: {path} has no rows")
    if isinstance(lines[0], BadRow) and header_lines:
        raise UserError(f"{path}:1: {lines[0]}")
    first_line = "" if isinstance(lines[0], BadRow) else lines[0]
    parse = row_parser(task, spec, path, first_line)
    for number, line in enumerate(lines[header_lines:], header_lines + 1):
        found: list[Row] | BadRow
        try:
            found = line if isinstance(line, BadRow) else parse(line)
        except BadRow as reason:
            found = reason
        yield f"{path}:{number}", found


def read_bytes(path: Path, purpose: str) -> bytes:
    """Returns what a file holds.

    Raises:
        UserError: It cannot be read; begins with `purpose`.
    """
    if path.is_dir():
        raise UserError(f"{purpose}: {path} is a directory, expected a file")
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        looked_for = "" if path.is_absolute() else f" (looked for {path.absolute()})"
        raise UserError(f"{purpose}: no file {path}{looked_for}{did_you_mean_file(path)}") from None
    except OSError as error:
        raise UserError(f"{purpose}: can't read {path}: {error.strerror}") from None


def _lines(data: bytes) -> list[str | BadRow]:
    """Lines without their ends; in place of one that is not UTF-8, what is wrong with it.

    Only a line feed ends a line: sentences may hold U+2028 or U+0085, where `str.splitlines`
    would break them.
    """
    offset = len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0
    raw_lines = data[offset:].split(b"\n")
    if not raw_lines[-1]:
        raw_lines.pop()
    lines: list[str | BadRow] = []
    for raw in raw_lines:
        try:
            lines.append(raw.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            byte = f"byte 0x{raw[error.start]:02x} at offset {offset + error.start} of the file"
            lines.append(BadRow(f"{byte} is not UTF-8"))
        offset += len(raw) + 1
    return lines

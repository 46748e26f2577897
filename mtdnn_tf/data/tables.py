"""Rows of files in all the formats that are read, a piece at a time."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from mtdnn_tf.data.row import BadRow
from mtdnn_tf.errors import UserError, did_you_mean_file
from mtdnn_tf.tasks.split import COMPRESSED, TABLES, SplitSpec

Record = list[str] | dict[str, Any]  # The cells of a row, or its values by key.
Rows = Iterator[tuple[str, Record | BadRow]]
# The schema of a file, what gives the batches of some of its columns, and how many rows there are.
Batches = tuple[pa.Schema, Callable[[list[str]], Iterator[pa.RecordBatch]], int]
_SPACE = re.compile(r"[ \t\r\n]*")
_PIECE_CHARS = 1 << 20
_PIECE_ROWS = 4096
_UTF16 = "looks like UTF-16, expected UTF-8"


@dataclass(frozen=True)
class Table:
    """The rows of one file.

    Attributes:
        names: The header's cells, or the names of the columns; None where there is no header, or each
            row has keys of its own.
        rows: Where each row stands (`file:line`, or file and 0-based row), and what it holds or why
            it is bad.
        fraction: How much of the file has been read, 0 to 1.
    """

    names: list[str] | None
    rows: Rows
    fraction: Callable[[], float]


@contextmanager
def open_table(
    path: Path, spec: SplitSpec, purpose: str, wanted: Collection[str] | None = None
) -> Iterator[Table]:
    """Opens a file to read its rows once, without holding them all.

    Blank lines are no rows in JSON lines and CSV, nor at the end of a TSV file.

    Args:
        path: The file.
        spec: Its layout: format, quoting, header.
        purpose: What an error begins with where the file cannot be read.
        wanted: Names of the columns that are needed; by default all. Others may be left out.

    Raises:
        UserError: The file is missing or is not of its format; while rows are read as well.
    """
    with opened(path, purpose) as file:
        format, size = spec.format_of(str(path)), path.stat().st_size or 1
        if format not in _ROWS:
            table = _arrow_table(path, file, format, wanted)
        else:
            text = _text(path, file, newline="\n" if _quoting(spec, format) == "none" else "")
            rows = _ROWS[format](text, path, spec)
            names = _header(rows) if spec.header and format in TABLES else None
            table = Table(names, rows, lambda: file.tell() / size)
        yield table


@contextmanager
def opened(path: Path, purpose: str) -> Iterator[BufferedReader]:
    """Opens a file of rows; whatever is wrong with it, while it is read as well, is one line.

    Raises:
        UserError: It cannot be read, or is damaged; begins with `purpose`.
    """
    if path.is_dir():
        raise UserError(f"{purpose}: {path} is a directory, expected a file")
    try:
        with path.open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError):
        looked_for = "" if path.is_absolute() else f" (looked for {path.absolute()})"
        raise UserError(f"{purpose}: no file {path}{looked_for}{did_you_mean_file(path)}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{purpose}: {path} is damaged or not of its format: {reason}") from error
    except OSError as error:
        raise UserError(f"{purpose}: can't read {path}: {error.strerror or error}") from error


def _text(path: Path, file: IO[bytes], newline: str) -> io.TextIOWrapper:
    """The characters of a file; bytes that are not UTF-8 become half surrogate pairs.

    Raises:
        UserError: It is UTF-16.
    """
    is_compressed = path.name.lower().endswith(COMPRESSED)
    buffered: Any = gzip.GzipFile(fileobj=file) if is_compressed else file
    start = buffered.peek(4)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:4]:
        raise UserError(f"{path}:1: {_UTF16}")
    # Sentences may hold U+2028 or U+0085, where `str.splitlines` would break them; this does not.
    return io.TextIOWrapper(buffered, "utf-8-sig", errors="surrogateescape", newline=newline)


def _quoting(spec: SplitSpec, format: str) -> str:
    return spec.quoting or ("csv" if format == "csv" else "none")


def _check_utf8(text: str) -> None:
    """Raises a BadRow where bytes of a text were not UTF-8."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        offset = len(text[: error.start].encode(errors="surrogateescape"))
        byte = ord(text[error.start]) - 0xDC00
        raise BadRow(f"byte 0x{byte:02x} at offset {offset} of the line is not UTF-8") from None


def _header(rows: Rows) -> list[str] | None:
    """The cells of the first row; None of an empty file."""
    place, cells = next(rows, ("", None))
    if cells is None:
        return None
    if isinstance(cells, BadRow):
        raise UserError(f"{place}: {cells}")
    return list(cells)


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[tuple[int, str]]:
    """The lines that end in a line feed, by their number, without the blank ones at the end.

    Raises:
        UserError: The lines end in carriage returns alone.
    """
    blank: list[int] = []
    for number, line in enumerate(text, 1):
        line = line.removesuffix("\n").removesuffix("\r")
        if number == 1 and "\r" in line:
            raise UserError(
                f"{path}:1: a carriage return in the first line; lines end in a line feed"
            )
        if not line:
            blank.append(number)
            continue
        yield from ((before, "") for before in blank)
        blank.clear()
        yield number, line


def _cells(text: io.TextIOWrapper, path: Path, spec: SplitSpec) -> Rows:
    """The rows of a table."""
    format = spec.format_of(str(path))
    separator = "\t" if format == "tsv" else ","
    if _quoting(spec, format) == "csv":
        yield from _quoted_cells(text, path, separator)
        return
    for number, line in _lines(text, path):
        record: Record | BadRow = line.split(separator)
        try:
            _check_utf8(line)
            if "\0" in line:
                record = BadRow(f"a NUL character: {_UTF16}")
        except BadRow as reason:
            record = reason
        yield f"{path}:{number}", record


def _quoted_cells(text: io.TextIOWrapper, path: Path, separator: str) -> Rows:
    csv.field_size_limit(1 << 30)
    reader = csv.reader(text, delimiter=separator, strict=True)
    number = 1
    while True:
        record: Record | BadRow
        try:
            record = next(reader)
            _check_utf8("".join(record))
        except StopIteration:
            return
        except csv.Error as error:
            record = BadRow(f"not CSV: {error}")
        except BadRow as reason:
            record = reason
        if record != []:  # A blank line.
            yield f"{path}:{number}", record
        number = reader.line_num + 1


def _json_lines(text: io.TextIOWrapper, path: Path, spec: SplitSpec) -> Rows:
    for number, line in _lines(text, path):
        if line.strip():
            yield f"{path}:{number}", _object(line)


def _json(text: io.TextIOWrapper, path: Path, spec: SplitSpec) -> Rows:
    """An array of objects, or JSON lines: the first character tells."""
    start = text.read(1)
    while start.isspace():
        start = text.read(1)
    text.seek(0)
    return _json_array(text, path) if start == "[" else _json_lines(text, path, spec)


def _json_array(text: io.TextIOWrapper, path: Path) -> Rows:
    """The objects of an array, decoded as the text comes in."""
    decoder, buffer, number = json.JSONDecoder(), text.read(_PIECE_CHARS), 0
    while "[" not in buffer:  # The caller has seen it.
        buffer += text.read(_PIECE_CHARS)
    at = buffer.index("[") + 1
    while True:
        at = _after_space(buffer, at)
        try:
            if buffer[at] == "]":
                if buffer[at + 1 :].strip() or text.read().strip():
                    raise UserError(f"{path}: not JSON: text after the end of the array")
                return
            if number and buffer[at] != ",":
                raise json.JSONDecodeError("expected ',' or ']'", buffer, at)
            value, end = decoder.raw_decode(buffer, _after_space(buffer, at + 1) if number else at)
        except (ValueError, IndexError, RecursionError) as error:
            # Whatever is wrong may be that the piece ends here.
            more = text.read(max(_PIECE_CHARS, len(buffer) - at))
            if not more:
                reason = getattr(error, "msg", "the array does not end")
                raise UserError(f"{path}, row {number}: not JSON: {reason}") from None
            buffer, at = buffer[at:] + more, 0
            continue
        yield f"{path}, row {number}", _object_of(value)
        at, number = end, number + 1


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _object(line: str) -> dict[str, Any] | BadRow:
    try:
        _check_utf8(line)
        return _object_of(json.loads(line))
    except (ValueError, RecursionError) as error:
        return BadRow(f"not JSON: {error}")
    except BadRow as reason:
        return reason


def _object_of(value: Any) -> dict[str, Any] | BadRow:
    if isinstance(value, dict):
        return value
    return BadRow(f"not a JSON object: {json.dumps(value)[:40]}")


def _arrow_table(path: Path, file: IO[bytes], format: str, wanted: Collection[str] | None) -> Table:
    schema, batches, count = _parquet(file) if format == "parquet" else _arrow(file)
    names = [name for name in schema.names if wanted is None or name in wanted]
    read = 0

    def rows() -> Rows:
        nonlocal read
        for whole in batches(names):
            for start in range(0, whole.num_rows, _PIECE_ROWS):
                for row in whole.slice(start, _PIECE_ROWS).select(names).to_pylist():
                    yield f"{path}, row {read}", row
                    read += 1

    return Table(list(schema.names), rows(), lambda: read / count if count else 0.0)


def _parquet(file: IO[bytes]) -> Batches:
    parquet = pyarrow.parquet.ParquetFile(file)

    def batches(names: list[str]) -> Iterator[pa.RecordBatch]:
        return parquet.iter_batches(_PIECE_ROWS, columns=names)

    return parquet.schema_arrow, batches, parquet.metadata.num_rows


def _arrow(file: IO[bytes]) -> Batches:
    """Arrow's file format, which is Feather's too, or its stream format."""
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        stream = pa.ipc.open_stream(file)
        return stream.schema, lambda names: stream, 0
    return reader.schema, lambda names: map(reader.get_batch, range(reader.num_record_batches)), 0


_ROWS = {"tsv": _cells, "csv": _cells, "jsonl": _json_lines, "json": _json}

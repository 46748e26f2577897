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
_MOST_CELL_CHARS = 1 << 24
_LONGEST_TOKEN = 16  # Characters: an error so near the end of a piece may be that the piece ends.
_GZIP = b"\x1f\x8b"
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
_NUL = "a NUL character: looks like UTF-16, expected UTF-8"


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
            text = _text(path, file, newline="\n" if spec.quoting_of(str(path)) == "none" else "")
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
        UserError: It is UTF-16, or compressed under a name that does not say so.
    """
    is_compressed = path.name.lower().endswith(COMPRESSED)
    buffered: Any = gzip.GzipFile(fileobj=file) if is_compressed else file
    start = buffered.peek(4)
    if start[:2] == _GZIP:
        raise UserError(f"{path} is compressed by gzip, expected a name that ends in {COMPRESSED}")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:4]:
        raise UserError(f"{path}:1: looks like UTF-16, expected UTF-8")
    # Sentences may hold U+2028 or U+0085, where `str.splitlines` would break them; this does not.
    return io.TextIOWrapper(buffered, "utf-8-sig", errors="surrogateescape", newline=newline)


def _check_cells(line: str) -> None:
    """Raises a BadRow where a row of a table has what is no text."""
    _check_utf8(line)
    if "\0" in line:
        raise BadRow(_NUL)


def _check_utf8(text: str, name: str = "line") -> None:
    """Raises a BadRow where bytes of a text, which messages call `name`, were not UTF-8."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        offset = len(text[: error.start].encode(errors="surrogateescape"))
        byte = ord(text[error.start]) - 0xDC00
        raise BadRow(f"byte 0x{byte:02x} at offset {offset} of the {name} is not UTF-8") from None


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
    separator = "\t" if spec.format_of(str(path)) == "tsv" else ","
    if spec.quoting_of(str(path)) == "csv":
        yield from _quoted_cells(text, path, separator)
        return
    for number, line in _lines(text, path):
        record: Record | BadRow = line.split(separator)
        try:
            _check_cells(line)
        except BadRow as reason:
            record = reason
        yield f"{path}:{number}", record


def _quoted_cells(text: io.TextIOWrapper, path: Path, separator: str) -> Rows:
    csv.field_size_limit(_MOST_CELL_CHARS)
    reader = csv.reader(text, delimiter=separator, strict=True)
    number = 1
    while True:
        record: Record | BadRow
        try:
            record = next(reader)
            _check_cells("".join(record))
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > number:  # A quote is open: who knows how many rows are in it.
                raise UserError(
                    f"{path}:{number}: not CSV: {error}, in a quoted cell that goes on to line "
                    f"{reader.line_num}"
                ) from None
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
        start = at = _after_space(buffer, at)
        try:
            if buffer[at] == "]":
                if buffer[at + 1 :].strip() or text.read().strip():
                    raise UserError(f"{path}: not JSON: text after the end of the array")
                return
            if number and buffer[at] != ",":
                raise json.JSONDecodeError("expected ',' or ']'", buffer, at)
            at = _after_space(buffer, at + 1) if number else at
            value, end = decoder.raw_decode(buffer, at)
        except (ValueError, IndexError, RecursionError) as error:
            more = ""
            if _may_be_cut(buffer, error):
                more = text.read(max(_PIECE_CHARS, len(buffer) - start))
            if not more:
                reason = _reason(error)
                raise UserError(f"{path}, row {number}: not JSON: {reason}") from None
            buffer, at = buffer[start:] + more, 0
            continue
        yield f"{path}, row {number}", _object_of(value, buffer[at:end])
        at, number = end, number + 1


def _may_be_cut(buffer: str, error: Exception) -> bool:
    """Whether what is wrong may be that the buffer ends before the value does."""
    if isinstance(error, json.JSONDecodeError):
        is_open = error.msg.startswith("Unterminated string")
        return is_open or error.pos > len(buffer) - _LONGEST_TOKEN
    return isinstance(error, IndexError)


def _reason(error: Exception) -> str:
    """What is wrong with JSON."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, IndexError):
        return "the array does not end"
    return getattr(error, "msg", str(error))


def _after_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # It matches nothing as well.


def _object(line: str) -> dict[str, Any] | BadRow:
    try:
        return _object_of(json.loads(line), line, "line")
    except ValueError as error:
        return BadRow(f"not JSON: {error}")
    except RecursionError as error:
        return BadRow(f"not JSON: {_reason(error)}")


def _object_of(value: Any, text: str, name: str = "object") -> dict[str, Any] | BadRow:
    """A value that was written as a text, which messages call `name`."""
    try:
        _check_utf8(text, name)
    except BadRow as reason:
        return reason
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
                for row in _records(whole.slice(start, _PIECE_ROWS)):
                    yield f"{path}, row {read}", row
                    read += 1

    return Table(list(schema.names), rows(), lambda: read / count if count else 0.0)


def _records(batch: pa.RecordBatch) -> list[Record | BadRow]:
    """The rows of a batch; a bad row where Python has no such value."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError, LookupError) as error:  # Not UTF-8; a year; a time zone.
        if batch.num_rows == 1:
            return [BadRow(f"a value cannot be read: {error}".splitlines()[0])]
        return [row for n in range(batch.num_rows) for row in _records(batch.slice(n, 1))]


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
        return _arrow_stream(file)
    batches = map(reader.get_batch, range(reader.num_record_batches))
    return reader.schema, lambda names: (batch.select(names) for batch in batches), 0


def _arrow_stream(file: IO[bytes]) -> Batches:
    file.seek(0)
    stream = pa.ipc.open_stream(file)
    start = file.tell()
    file.seek(-len(_STREAM_END), io.SEEK_END)
    if file.read() != _STREAM_END:
        raise pa.ArrowInvalid("the stream does not end")
    file.seek(start)
    return stream.schema, lambda names: (batch.select(names) for batch in stream), 0


_ROWS = {"tsv": _cells, "csv": _cells, "jsonl": _json_lines, "json": _json}

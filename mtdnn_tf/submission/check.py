"""What is wrong with a submission to GLUE."""

import lzma
import re
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.submission.formats import GLUE_FILES, HEADER, SCORES, GlueFile

MOST_BYTES = 64 << 20  # Of one file; the largest, QQP, has under 4 MiB.
MOST_FAULTS = 20  # Shown of one file, unless more are asked for.
UNPACKING = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,  # Of bz2.
    RuntimeError,  # Encrypted, or compressed in another way.
    ValueError,  # A bad name.
)
NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")


@dataclass
class Report:
    """What was found in a submission.

    Attributes:
        count: How many faults there are.
        faults: For which GLUE would refuse it or misread it; each with file and line, and of each file
            not many.
        warnings: What is allowed and looks wrong.
        rows: File to how many predictions it has.
        shares: File to how often it has each value, a fraction; of scores there are none.
    """

    count: int = 0
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)


def check_submission(path: Path, most: int = MOST_FAULTS) -> Report:
    """Reads a submission and lists what is wrong with it.

    Args:
        path: The zip file.
        most: Faults of a file that are listed beside its last; all are counted.

    Raises:
        UserError: It cannot be read, or is not a zip file.
    """
    report = Report()
    try:
        with zipfile.ZipFile(path) as archive:
            members = {i.filename: i for i in archive.infolist() if not i.filename.endswith("/")}
            expected = {of_one.file: of_one for of_one in GLUE_FILES}
            counts = Counter(info.filename for info in archive.infolist())
            wrong = [f"{_shown(name)}: there {n} times" for name, n in counts.items() if n > 1]
            wrong += [
                f"{_shown(name)}: no file of a submission{did_you_mean(name.split('/')[-1], expected)}"
                for name in members
                if name not in expected
            ]
            report.count += len(wrong)
            report.faults += wrong[:most]
            if len(wrong) > most:
                report.faults.append(f"and {len(wrong) - most} more such files")
            for name, of_one in expected.items():
                if name not in members:
                    report.count += 1
                    report.faults.append(f"{name}: is missing")
                elif members[name].file_size > MOST_BYTES:
                    report.count += 1
                    report.faults.append(f"{name}: more than {MOST_BYTES >> 20} MiB")
                else:
                    _check_file(of_one, archive, report, most)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"{path}: cannot be unpacked: {error}") from error
    return report


def _shown(name: str) -> str:
    """A member's name as it can be printed."""
    return name if name and name.isprintable() and len(name) <= 60 else repr(name[:60])


def _check_file(of_one: GlueFile, archive: zipfile.ZipFile, report: Report, most: int) -> None:
    values: Counter[str] = Counter()
    found: deque[str] = deque(maxlen=1)  # The last, which may be of the number of rows.
    count = 0
    for count, fault in enumerate(_faults_of_file(of_one, archive, values), start=1):
        if count <= most:
            report.faults.append(f"{of_one.file}{fault}")
        else:
            found.append(f"{of_one.file}{fault}")
    report.count += count
    if count > most + 1:
        report.faults.append(f"{of_one.file}: and {count - most - 1} more, the last:")
    report.faults += found
    total = report.rows[of_one.file] = sum(values.values())
    if of_one.values:
        report.shares[of_one.file] = {v: values[v] / total for v in of_one.values if total}
    if len(values) == 1:
        (value,) = values
        shown = value if value in of_one.values else repr(value[:20])
        report.warnings.append(f"{of_one.file}: every prediction is {shown}")


def _faults_of_file(
    of_one: GlueFile, archive: zipfile.ZipFile, values: Counter[str]
) -> Iterator[str]:
    """Yields what is wrong, with the line in front; counts the predictions."""
    try:
        with archive.open(of_one.file) as lines:
            yield from _faults_of_lines(of_one, lines, values)
    except UNPACKING as error:
        yield f": cannot be unpacked: {error}"


def _faults_of_lines(of_one: GlueFile, lines: IO[bytes], values: Counter[str]) -> Iterator[str]:
    rows = 0
    number = 0
    order = _Order()
    for number, raw in enumerate(lines, start=1):
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            yield f":{number}: not UTF-8"
            rows += number > 1
            continue
        if line.startswith("\ufeff"):
            yield f":{number}: begins with a byte-order mark"
            line = line[1:]
        line = line.removesuffix("\n")
        if line.endswith("\r"):
            yield f":{number}: ends with a carriage return"
            line = line.removesuffix("\r")
        if number > 2 * of_one.rows + 1:
            yield f":{number}: far over {of_one.rows:,} rows; what comes after is not read"
            return
        if number == 1:
            if line != HEADER:
                yield f":1: expected the header 'index<TAB>prediction', found {line[:60]!r}"
            continue
        if not line:
            yield f":{number}: is empty"
            continue
        cells = line.split("\t")
        if len(cells) != 2:
            yield f":{number}: expected index and prediction, found {len(cells)} columns"
        else:
            expected = order.expected(rows, cells[0])
            yield from (f":{number}: {fault}" for fault in _faults_of_row(of_one, expected, *cells))
            values[cells[1]] += 1
        rows += 1
    if not number:
        yield ":1: is empty"
    elif rows != of_one.rows:
        yield f":{number}: {rows:,} rows, expected {of_one.rows:,}"


class _Order:
    """What index a row should have, so that a row that is missing or doubled is one fault.

    Behind such a row all indices are off by one; behind a wrong index none is. Which of the two it
    was is what the next row says.
    """

    def __init__(self) -> None:
        self._ahead = 0  # Of the row's number.
        self._last = 0  # How far the last index was, which was not the expected one.

    def expected(self, row: int, index: str) -> int:
        """The index expected of a row that has `index`."""
        if index == str(row + self._last):
            self._ahead = self._last
        elif index.isascii() and index.isdecimal() and len(index) < 10:
            self._last = int(index) - row
        return row + self._ahead


def _faults_of_row(of_one: GlueFile, row: int, index: str, prediction: str) -> Iterator[str]:
    if not (index.isascii() and index.isdecimal()):
        yield f"index {index[:20]!r} is not a whole number"
    elif len(index) > len(str(of_one.rows)) or int(index) >= of_one.rows:
        yield f"index {index[:20]} is over the last, {of_one.rows - 1}"
    elif index != str(row):
        yield f"index {index}, expected {row}: rows are in the order of the test file"
    if of_one.values:
        if prediction not in of_one.values:
            yield f"prediction {prediction[:20]!r}, expected one of {', '.join(of_one.values)}"
        return
    low, high = SCORES
    if not NUMBER.fullmatch(prediction) or not low <= float(prediction) <= high:
        yield f"prediction {prediction[:20]!r}, expected a number from {low:g} to {high:g}"

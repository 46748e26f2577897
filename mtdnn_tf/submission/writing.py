"""Writes a submission to GLUE, a file at a time, so that one that was cut off goes on."""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from absl import logging
from filelock import FileLock, Timeout

from mtdnn_tf.data.sources import Rows, content_hash, read_split, split_paths
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically
from mtdnn_tf.submission.answering import BATCH_SIZE, answer, check_task, head_of
from mtdnn_tf.submission.formats import GLUE_FILES, HEADER, GlueFile
from mtdnn_tf.submission.models import Model, Models
from mtdnn_tf.tasks import builtin_tasks

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # The earliest that a zip file can say.
LOCK, WHOLE = ".lock", "whole.zip"
PARTS = {LOCK, WHOLE} | {name for of in GLUE_FILES for name in (of.file, f"{of.name}.json")}


@dataclass(frozen=True)
class Origin:
    """Where a file's predictions are from.

    Attributes:
        of_one: The file.
        model: What answers it; None where it says the same in every row.
        why_not: Why there is no model, for a person.
    """

    of_one: GlueFile
    model: Model | None
    why_not: str = ""


def origins(models: Models, glue_dir: Path) -> list[Origin]:
    """Says for each file of a submission what answers it.

    Args:
        models: Task to what answers it.
        glue_dir: The folder of GLUE's files.

    Raises:
        UserError: A model has a task of the name that takes other texts or answers other labels.
    """
    found = []
    for of_one in GLUE_FILES:
        task = builtin_tasks()[of_one.task]
        head = head_of(task).name
        (path,) = split_paths(task, of_one.split, glue_dir)
        if head not in models:
            found.append(Origin(of_one, None, f"no model has the task {head!r}"))
        elif not path.is_file():
            found.append(Origin(of_one, None, f"there is no {path}"))
        else:
            check_task(of_one, models[head])
            found.append(Origin(of_one, models[head]))
    return found


def refuse_missing(found: list[Origin]) -> None:
    """Raises a UserError where a file has no model, which names all of them."""
    missing = [f"{one.of_one.name}: {one.why_not}" for one in found if one.model is None]
    if missing:
        raise UserError(f"{'; '.join(missing)} (--missing=majority writes what is most frequent)")


class SubmissionWriter:
    """Writes a submission.

    What is done is kept in `<output>.partial` until all is there.

    Args:
        output: The zip file.
        glue_dir: The folder of GLUE's files.
        advance: Called with a file and the number of its rows that are done.
    """

    def __init__(
        self, output: Path, glue_dir: Path, advance: Callable[[GlueFile, int], None]
    ) -> None:
        self._output, self._glue_dir, self._advance = output, glue_dir, advance
        self._folder = output.with_name(f"{output.name}.partial")

    def write(self, found: list[Origin]) -> None:
        """Answers every file, then writes the zip file, whole or not at all.

        Raises:
            UserError: A test file is bad or not GLUE's, what is there of a submission is of other
                models or data, another process writes it, or it cannot be written.
        """
        rows = [read_test(one.of_one, self._glue_dir) if one.model else None for one in found]
        with self._locked():
            for origin in found:
                self._check_source(origin)
            for origin, of_one in zip(found, rows, strict=True):
                self._answer(origin, of_one)
            self._zip()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self._folder / LOCK, timeout=0)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._refuse_others()
            lock.acquire()
        except Timeout as error:
            raise UserError(f"{self._output} is being written by another process") from error
        except OSError as error:
            raise UserError(f"cannot write {self._output}: {error.strerror}") from error
        try:
            yield
            shutil.rmtree(self._folder)
        finally:
            lock.release()

    def _refuse_others(self) -> None:
        """Raises a UserError where the folder, which is removed in the end, has files of others."""
        for path in self._folder.iterdir():
            if path.name.split(".partial-")[0] not in PARTS:
                raise UserError(
                    f"{path} is no part of a submission; move it away: {self._folder} is removed when "
                    "the submission is done"
                )

    def _check_source(self, origin: Origin) -> None:
        """Writes down what a file is made from, or compares it with what is written there."""
        of_one = origin.of_one
        source: dict[str, str | None] = {"model": None, "data": None}
        if origin.model:
            task = builtin_tasks()[of_one.task]
            data = content_hash(task, of_one.split, self._glue_dir).hex()
            source = {"model": origin.model.identity, "data": data}
        path = self._folder / f"{of_one.name}.json"
        text = json.dumps(source) + "\n"
        if not path.exists():
            write_atomically(path, text)
        elif path.read_bytes() != text.encode():
            raise UserError(
                f"{self._folder} has {of_one.file} of another model or other data; remove the folder "
                "to begin anew, or choose another --output"
            )

    def _answer(self, origin: Origin, rows: Rows | None) -> None:
        of_one = origin.of_one
        path = self._folder / of_one.file
        if origin.model is None or rows is None:
            lines = (f"{row}\t{of_one.majority}\n" for row in range(of_one.rows))
            write_atomically(path, f"{HEADER}\n{''.join(lines)}")
            self._advance(of_one, of_one.rows)
            return
        done = _whole_batches(path.read_bytes() if path.exists() else b"", of_one.rows)
        with self._writing(), path.open("ab") as file:
            file.truncate(done.size)
            if not done.size:
                file.write(f"{HEADER}\n".encode())
            row = done.rows
            self._advance(of_one, row)
            for batch in answer(of_one, origin.model, rows.texts, row):
                lines = (f"{row + i}\t{value}\n" for i, value in enumerate(batch))
                file.write("".join(lines).encode())
                row += len(batch)
                self._advance(of_one, row)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write {self._output}: {error.strerror or error}") from error

    def _zip(self) -> None:
        whole = self._folder / WHOLE
        with self._writing(), zipfile.ZipFile(whole, "w") as archive:
            for of_one in GLUE_FILES:
                info = zipfile.ZipInfo(of_one.file, ZIP_TIME)
                info.external_attr = 0o644 << 16
                archive.writestr(info, (self._folder / of_one.file).read_bytes())
        with self._writing():
            whole.replace(self._output)


@dataclass(frozen=True)
class _Done:
    """What is there of a file: its whole batches, in rows and with the header in bytes."""

    rows: int
    size: int


def _whole_batches(content: bytes, rows: int) -> _Done:
    lines = content.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # Cut off by a kill.
    count = max(len(lines) - 1, 0)
    if count < rows:
        count -= count % BATCH_SIZE
    return _Done(count, sum(map(len, lines[: count + 1])))


def read_test(of_one: GlueFile, glue_dir: Path) -> Rows:
    """Reads the rows that a file of a submission answers.

    Raises:
        UserError: A row is bad, they are not as many as GLUE has, or not in their order.
    """
    task = builtin_tasks()[of_one.task]
    (path,) = split_paths(task, of_one.split, glue_dir)
    rows = read_split(task, of_one.split, glue_dir)
    if rows.remark:
        logging.info("%s: %s", path, rows.remark)
    if len(rows) != of_one.rows:
        raise UserError(f"{path}: {len(rows):,} rows; GLUE's has {of_one.rows:,}")
    for number, uid in enumerate(rows.uids):
        if uid != str(number):
            raise UserError(f"{path}: row {number} has index {uid}; GLUE's are in their order")
    return rows

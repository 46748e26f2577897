"""Rows of data sets of TensorFlow Datasets (tensorflow.org/datasets).

`tensorflow_datasets` and TensorFlow are imported by the functions that need them: whoever reads files
does not wait for them.
"""

import hashlib
import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mtdnn_tf.data.row import BadRow, Row
from mtdnn_tf.data.row_format import Read, cells_parser, reads_of
from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.tasks.spec import SplitSpec, TaskSpec

OFFLINE = (
    "without a network, give a folder where it is prepared as data.tfds_dir, "
    "or the files themselves in --data_dir (a built-in task with source: files)"
)
REACH_SECONDS = 10
_BATCH = 4096


@dataclass(frozen=True)
class TfdsSplit:
    """One split of one data set.

    Attributes:
        task: The task that it is read for.
        spec: The layout; its columns are features.
        name: The data set: `name`, `name/config`, with `:1.0.0` for a version.
        data_dir: The folder of prepared data sets; None is TFDS' own default.
        purpose: What an error begins with.
    """

    task: TaskSpec
    spec: SplitSpec
    name: str
    data_dir: Path | None
    purpose: str

    def __str__(self) -> str:
        return f"TFDS {self.name}, split {self.spec.split}"

    def exists(self) -> bool:
        """Whether the data set has the split.

        Raises:
            UserError: The data set cannot be opened.
        """
        return not self._unknown_splits(self._builder())

    def read(self) -> Iterator[tuple[str, list[Row] | BadRow]]:
        """Yields where each row stands (data set and 0-based number), and the row or why it is bad.

        Rows come in the order in which they are prepared. The number of a class becomes the name
        that the data set gives it; -1, which stands for no label, stays `-1`.

        Raises:
            UserError: There is no such data set, split or feature, or it cannot be read.
        """
        import tensorflow as tf
        import tensorflow_datasets as tfds

        builder = self._checked_builder()
        reads = reads_of(self.task, self.spec)
        cells_of = [self._cells(builder, read) for read in reads]
        parse = cells_parser(self.task, self.spec)
        in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        try:
            examples = builder.as_dataset(split=self.spec.split, read_config=in_order)
            columns = examples.map(lambda example: tuple(example[read.column] for read in reads))
            number = 0
            for batch in columns.batch(_BATCH).as_numpy_iterator():
                for values in zip(*batch, strict=True):
                    yield f"{self}, row {number}", _row(parse, cells_of, values)
                    number += 1
        except (ValueError, OSError, tf.errors.OpError) as error:
            raise self._error(f"cannot read it: {_first_line(error)}") from error

    def content_hash(self) -> bytes:
        """SHA-256 of the data set's name and version, the split, its class names and its files.

        Raises:
            UserError: There is no such data set, split or feature, or it cannot be read.
        """
        builder = self._checked_builder()
        digest = hashlib.sha256(f"{builder.info.full_name} {self.spec.split}".encode())
        for read in reads_of(self.task, self.spec):
            digest.update(repr(getattr(self._feature(builder, read), "names", None)).encode())
        try:
            for path in builder.info.splits[self.spec.split].filepaths:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise self._error(f"cannot read it: {_first_line(error)}") from error
        return digest.digest()

    def _builder(self) -> Any:
        """The data set, prepared now if it was not yet."""
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(self.name, data_dir=self.data_dir, try_gcs=False)
        except (ValueError, AssertionError, OSError) as error:
            raise self._error(self._why_unknown(error)) from error
        if not _is_prepared(builder):
            self._prepare(builder)
        # What was prepared knows its own features and class names; those of the code may be newer.
        return tfds.builder_from_directory(builder.data_dir) if _is_prepared(builder) else builder

    def _why_unknown(self, error: Exception) -> str:
        import tensorflow_datasets as tfds

        dataset, _, config = self.name.partition(":")[0].partition("/")
        known = set(tfds.list_builders(with_community_datasets=False))
        if dataset not in known:
            if self.data_dir is not None and self.data_dir.is_dir():
                known |= {path.name for path in self.data_dir.iterdir() if path.is_dir()}
            hint = did_you_mean(dataset, known)
            place = self.data_dir or "its default folder (data.tfds_dir names another)"
            return f"TFDS knows no such data set, and none is prepared in {place}" + (
                hint if "did you mean" in hint else ""
            )
        configs = tfds.builder_cls(dataset).builder_configs
        if config and config not in configs:
            return f"it has no config {config!r}{did_you_mean(config, configs)}"
        return _first_line(error)

    def _prepare(self, builder: Any) -> None:
        import tensorflow_datasets as tfds

        place = f"it is not prepared in {builder.data_dir}, and"
        if reason := _unreachable(builder.url_infos or ()):
            raise self._error(f"{place} its servers cannot be reached ({reason}); {OFFLINE}")
        logging.info("TFDS %s: downloading and preparing it in %s", self.name, builder.data_dir)
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            builder.download_and_prepare(download_config=config)
        except Exception as error:  # Code of a data set, which fails in ways of its own.
            raise self._error(
                f"{place} preparing it failed: {_first_line(error)}; {OFFLINE}"
            ) from error

    def _checked_builder(self) -> Any:
        builder = self._builder()
        if unknown := self._unknown_splits(builder):
            hint = did_you_mean(unknown[0], builder.info.splits)
            raise self._error(f"it has no split {unknown[0]!r}{hint}")
        return builder

    def _unknown_splits(self, builder: Any) -> list[str]:
        splits = builder.info.splits
        names = [part.partition("[")[0].strip() for part in str(self.spec.split).split("+")]
        # TFDS lists no splits of a data set that its own tests make up.
        return [name for name in names if splits and name not in splits]

    def _feature(self, builder: Any, read: Read) -> Any:
        features = builder.info.features
        if read.column not in features:
            hint = did_you_mean(str(read.column), features)
            raise self._error(f"it has no feature {read.column!r} for {read.name}{hint}")
        return features[read.column]

    def _cells(self, builder: Any, read: Read) -> Callable[[Any], str]:
        """A function from a value of a feature to its cell, such as a file would have it."""
        feature = self._feature(builder, read)
        is_text = feature.shape == () and feature.np_dtype in (np.object_, np.str_)
        is_number = feature.shape == () and np.issubdtype(feature.np_dtype, np.number)
        if not is_text and (read.name in self.task.fields or not is_number):
            expected = "text" if read.name in self.task.fields else "text or a number"
            raise self._error(
                f"its feature {read.column!r} for {read.name} is {feature!r}, expected {expected}"
            )
        if is_text:
            return _decoded
        names = getattr(feature, "names", None)  # A ClassLabel has them.
        if names is None:
            return lambda value: str(value.item())
        return lambda value: names[value] if value >= 0 else str(value)

    def _error(self, reason: str) -> UserError:
        return UserError(f"{self.purpose}: {self}: {reason}")


def _is_prepared(builder: Any) -> bool:
    # TFDS itself warns where there is no folder.
    return builder.data_path.exists() and builder.is_prepared()


def _row(
    parse: Callable[[list[str]], list[Row]], cells_of: list[Callable[[Any], str]], values: tuple
) -> list[Row] | BadRow:
    try:
        return parse([cell(value) for cell, value in zip(cells_of, values, strict=True)])
    except BadRow as reason:
        return reason


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow(f"byte 0x{value[error.start]:02x} is not UTF-8") from None


def _unreachable(urls: Any) -> str:
    """Why no server of `urls` answers; empty if one does, or there is none.

    TFDS itself tries a server that cannot be found eleven times, for minutes, and waits for one
    that is silent without end.
    """
    reason = ""
    by_host = {urllib.parse.urlsplit(url).netloc: url for url in urls if url.startswith("http")}
    for host, url in by_host.items():
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=REACH_SECONDS).close()
        except (urllib.error.HTTPError, http.client.HTTPException):
            return ""  # It answers; what it says to the download itself is another matter.
        except OSError as error:
            reason = f"{host}: {getattr(error, 'reason', error)}"
        else:
            return ""
    return reason


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\s+", " ", lines[0])[:300] if lines else type(error).__name__

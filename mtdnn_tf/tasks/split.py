"""Where the rows of a split are, and how a row is laid out."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    model_validator,
)

from mtdnn_tf.validation.fields import LocalPath, Section, is_saved

OnBadRow = Literal["error", "skip"]
FileFormat = Literal["tsv", "csv", "jsonl", "json", "parquet", "arrow"]
Quoting = Literal["none", "csv"]
# What a file's name says of its format; before it may stand `.gz`'s own, for the text forms.
SUFFIXES: dict[str, FileFormat] = {
    ".tsv": "tsv",
    ".txt": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED = ".gz"
TABLES: tuple[FileFormat, ...] = ("tsv", "csv")  # Their rows have cells; the others' have keys.

# Python code may give a number; a config's labels are read as text.
LabelText = Annotated[str, Field(coerce_numbers_to_str=True)]
LabelName = Annotated[LabelText, AfterValidator(lambda text, info: _label_name(text, info))]
TfdsName = Annotated[str, Field(pattern=r"^\w+(/[\w.+-]+)?(:\d+\.\d+\.\d+)?$")]
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def _label_name(text: str, info: ValidationInfo) -> str:
    """Raises a ValueError for a label that no cell of a table can say."""
    if not is_saved(info) and (text.splitlines() != [text] or text != text.strip() or "\t" in text):
        raise ValueError(
            f"a label is text without tabs, line ends and white space around it, not {text!r}"
        )
    return text


def columns_in(column: str | int | None) -> tuple[str | int, ...]:
    """The columns that a value of `SplitSpec.columns` reads: several for a template, none for None."""
    if column is None:
        return ()
    names = _PLACEHOLDER.findall(column) if isinstance(column, str) else []
    return tuple(names) or (column,)


def format_of(file: str) -> FileFormat:
    """The format that a file's suffix says, whatever the case of its letters.

    Raises:
        ValueError: It says none; lists those that do.
    """
    name = file.lower().removesuffix(COMPRESSED)
    suffix = PurePath(name).suffix
    if suffix not in SUFFIXES or (
        name != file.lower() and SUFFIXES[suffix] in ("parquet", "arrow")
    ):
        known = f"{', '.join(SUFFIXES)}, and the text forms with {COMPRESSED}"
        raise ValueError(
            f"{file}: its suffix says no known format; expected {known}; or say format:"
        )
    return SUFFIXES[suffix]


class SplitSpec(Section):
    """Where the rows of one split are and how a row is laid out.

    Attributes:
        file: Path relative to the data directory, or absolute, or a list of them, read one after
            another. The suffix says the format: `.tsv` and `.txt` (tab separated, a `"` is a
            character), `.csv`, `.jsonl` or `.ndjson` (an object a line), `.json` (an array of
            objects, or JSON lines), `.parquet`, `.arrow` or `.feather`; the text forms also as `.gz`.
        format: The format, whatever the suffix says: `tsv`, `csv`, `jsonl`, `json`, `parquet` or
            `arrow`.
        quoting: Of a table: `csv` reads cells in `"` as CSV does (RFC 4180), `none` takes a `"` for a
            character. Null is `csv` for CSV files and `none` for TSV files.
        other_names: Where the one file may be as well, looked for in this order where it is not there.
        tfds: In place of `file`, a data set of TensorFlow Datasets, such as `glue/cola` or
            `glue/cola:2.0.0`, or a list of them. Its features are the columns.
        split: The split of `tfds`: `validation`, or a part of one, `train[:10%]`.
        header: Whether the first row of a table (TSV, CSV) names its columns.
        columns: Maps a text field, `label` or `uid` to a column: a header name, a 0-based position
            (in a table), or a key. A text field or `label` that is not listed stands in the column
            of its own name. Without `uid`, the 0-based number of the row is the uid. A split
            without labels (a test set) says `label: null`. A text field may be a template of
            several columns, `"{word}: {sentence}"`.
        skip_labels: What the source says in place of a label in rows that are to be left out, such
            as `-` in SNLI; they are counted in the log.
        column_count: The exact number of columns of every row of a table; by default the first's.
        optional: A missing file, or a split that a prepared data set of TFDS lacks, is a warning, not
            an error.
        candidate_lists: For a ranking task over rows with keys (JSON, Parquet): a row holds one query
            and the list of its candidates, and `label` is the 0-based position of the right one, or a
            list of them. Else a row is a query with one candidate.
        on_bad_row: Overrides the experiment's `data.on_bad_row` for this split.
    """

    file: LocalPath | Annotated[tuple[LocalPath, ...], Field(min_length=1)] | None = None
    other_names: tuple[LocalPath, ...] = ()
    format: FileFormat | None = None
    quoting: Quoting | None = None
    tfds: TfdsName | Annotated[tuple[TfdsName, ...], Field(min_length=1)] | None = None
    split: str | None = None
    header: StrictBool = True
    columns: dict[str, str | Annotated[StrictInt, Field(ge=0)] | None] = {}
    skip_labels: tuple[LabelText, ...] = ()
    column_count: Annotated[StrictInt, Field(ge=1)] | None = None
    optional: StrictBool = False
    candidate_lists: StrictBool = False
    on_bad_row: OnBadRow | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files, none where the rows are in TensorFlow Datasets."""
        return (self.file,) if isinstance(self.file, str) else self.file or ()

    @property
    def tfds_names(self) -> tuple[str, ...]:
        """The data sets of TensorFlow Datasets, none where the rows are in files."""
        return (self.tfds,) if isinstance(self.tfds, str) else self.tfds or ()

    def format_of(self, file: str) -> FileFormat:
        """The format of one of the files."""
        return self.format or format_of(file)

    def quoting_of(self, file: str) -> Quoting:
        """How one of the files, a table, is quoted."""
        return self.quoting or ("csv" if self.format_of(file) == "csv" else "none")

    @property
    def has_keys(self) -> bool:
        """Whether the values of a row are known by keys, not by their place in a table."""
        return any(self.format_of(file) not in TABLES for file in self.files)

    @property
    def has_labels(self) -> bool:
        """Whether the rows say what the answer is."""
        return self.columns.get("label", "label") is not None

    def column_of(self, name: str) -> str | int | None:
        """Where `name` (a text field, `label` or `uid`) stands; None where it does not."""
        return self.columns.get(name, None if name == "uid" else name)

    def fill(self, name: str, cells: Sequence[str]) -> str:
        """The text of a field, made of the cells of its columns (see `columns_in`)."""
        column = self.column_of(name)
        if column in columns_in(column):
            return cells[0]
        values = iter(cells)
        return _PLACEHOLDER.sub(lambda _: next(values), str(column))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.file is None) == (self.tfds is None):
            raise ValueError("needs either file or tfds")
        if self.other_names and not isinstance(self.file, str):
            raise ValueError("other_names are those of one file")
        formats = {self.format_of(name) for name in (*self.files, *self.other_names)}
        if len(formats) > 1:
            raise ValueError(
                f"file: expected files of one format, found {', '.join(sorted(formats))}"
            )
        if self.quoting is not None and not formats <= set(TABLES):
            raise ValueError("quoting is for TSV and CSV files")
        if (self.tfds is None) != (self.split is None):
            raise ValueError("tfds and split go together, such as tfds: glue/cola, split: train")
        if self.skip_labels and not self.has_labels:
            raise ValueError("skip_labels is for splits with labels")
        self._check_columns()
        return self

    def _check_columns(self) -> None:
        for name in ("label", "uid"):
            if columns_in(column := self.column_of(name)) not in ((column,), ()):
                raise ValueError(f"columns.{name}: a template is for text fields")
        positions = sorted(n for n, column in self.columns.items() if isinstance(column, int))
        is_table = bool(positions) or not self.header or self.column_count is not None
        if self.tfds is not None and is_table:
            raise ValueError(
                "a feature of tfds is known by its name: no positions, header or column_count"
            )
        if self.has_keys and positions:
            raise ValueError(f"columns: {positions[0]} is a position, but these rows have keys")
        if self.has_keys and self.column_count is not None:
            raise ValueError("column_count is for TSV and CSV files")
        if self.candidate_lists and not self.has_keys:
            raise ValueError("candidate_lists is for files whose rows have keys, such as .jsonl")

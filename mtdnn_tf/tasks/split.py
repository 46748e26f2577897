"""Where the rows of a split are, and how a row is laid out."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

OnBadRow = Literal["error", "skip"]

# YAML reads an unquoted 0 as a number; a label is text.
LabelText = Annotated[str, Field(coerce_numbers_to_str=True)]
LabelName = Annotated[LabelText, AfterValidator(lambda text: _label_name(text))]
TfdsName = Annotated[str, Field(pattern=r"^\w+(/[\w.+-]+)?(:\d+\.\d+\.\d+)?$")]
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def _label_name(text: str) -> str:
    """Raises a ValueError for a label that no cell of a table can say."""
    if text.splitlines() != [text] or text != text.strip() or "\t" in text:
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


class SplitSpec(BaseModel):
    """Where the rows of one split are and how a row is laid out.

    Attributes:
        file: Path relative to the data directory, or absolute, or a list of them, read one after
            another; `.jsonl` files hold one JSON object a line, every other file is tab separated
            without quoting (a `"` is a character).
        other_names: Where the one file may be as well, looked for in this order where it is not there.
        tfds: In place of `file`, a data set of TensorFlow Datasets, such as `glue/cola` or
            `glue/cola:2.0.0`, or a list of them. Its features are the columns.
        split: The split of `tfds`: `validation`, or a part of one, `train[:10%]`.
        header: Whether the first line of a TSV file names its columns.
        columns: Maps a text field, `label` or `uid` to a column: a header name, a 0-based position
            (TSV), or a key (JSONL). A text field or `label` that is not listed stands in the column
            of its own name. Without `uid`, the 0-based number of the row is the uid. A split
            without labels (a test set) says `label: null`. A text field may be a template of
            several columns, `"{word}: {sentence}"`.
        skip_labels: What the source says in place of a label in rows that are to be left out, such
            as `-` in SNLI; they are counted in the log.
        column_count: The exact number of columns of every row; by default the first line's.
        optional: A missing file, or a split that a prepared data set of TFDS lacks, is a warning, not
            an error.
        candidate_lists: For a ranking task over a `.jsonl` file: a row holds one query and the list
            of its candidates, and `label` is the 0-based position of the right one, or a list of
            them. Else a row is a query with one candidate.
        on_bad_row: Overrides the experiment's `data.on_bad_row` for this split.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    other_names: tuple[str, ...] = ()
    tfds: TfdsName | Annotated[tuple[TfdsName, ...], Field(min_length=1)] | None = None
    split: str | None = None
    header: bool = True
    columns: dict[str, str | Annotated[int, Field(ge=0)] | None] = {}
    skip_labels: tuple[LabelText, ...] = ()
    column_count: Annotated[int, Field(ge=1)] | None = None
    optional: bool = False
    candidate_lists: bool = False
    on_bad_row: OnBadRow | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files, none where the rows are in TensorFlow Datasets."""
        return (self.file,) if isinstance(self.file, str) else self.file or ()

    @property
    def tfds_names(self) -> tuple[str, ...]:
        """The data sets of TensorFlow Datasets, none where the rows are in files."""
        return (self.tfds,) if isinstance(self.tfds, str) else self.tfds or ()

    @property
    def is_jsonl(self) -> bool:
        """Whether a row is a JSON object, not a line of a table."""
        return bool(self.files) and all(file.endswith(".jsonl") for file in self.files)

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
        if len({file.endswith(".jsonl") for file in self.files}) > 1:
            raise ValueError("file: .jsonl files do not go with others")
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
        if self.is_jsonl and positions:
            raise ValueError(f"columns: {positions[0]} is a position, but a .jsonl row has keys")
        if self.is_jsonl and self.column_count is not None:
            raise ValueError("column_count is for TSV files")
        if self.candidate_lists and not self.is_jsonl:
            raise ValueError("candidate_lists is for .jsonl files")

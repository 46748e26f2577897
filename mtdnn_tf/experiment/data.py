"""The `data` section of an experiment."""

from typing import Annotated, Any, Self

from pydantic import Field, StrictFloat, StrictInt, model_validator

from mtdnn_tf.tasks.registry import SourceName
from mtdnn_tf.tasks.spec import OnBadRow
from mtdnn_tf.tokenizers import Truncation
from mtdnn_tf.validation.fields import LocalPath, Positive, Section, Seed

# The settings of `data` that say how texts are cut.
CUTTING = ("max_length", "truncation", "windows")


def limit_of(max_length: int, windows: int) -> str:
    """How much of an example is read, in words."""
    return f"{max_length} tokens" if windows == 1 else f"{windows} windows of {max_length} tokens"


class Subset(Section):
    """A random part of a task's training examples, drawn without replacement.

    Attributes:
        count: How many examples (in a ranking task, queries).
        fraction: Or which part of them, rounded down: `0.29` of 100 is 29.
        seed: Which drawing.
    """

    count: Positive | None = None
    fraction: Annotated[StrictFloat, Field(gt=0, le=1)] | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.count is None) == (self.fraction is None):
            raise ValueError("a subset has a count or a fraction")
        return self


class Fold(Section):
    """One of several equal parts of a task's training examples, which training leaves out.

    Attributes:
        of: How many parts there are.
        without: The number of the part that is left out, from 0.
        seed: Which partition.
    """

    of: Annotated[StrictInt, Field(ge=2)]
    without: Annotated[StrictInt, Field(ge=0)]
    seed: Seed = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.without >= self.of:
            raise ValueError(f"without is {self.without}, expected 0 to {self.of - 1}")
        return self


class DataSettings(Section):
    """Where text comes from and how it is cut.

    Attributes:
        source: What built-in tasks are read from: `files`, the official ones in `data_dir`, or `tfds`,
            TensorFlow Datasets. A task's own `source` goes first.
        data_dir: Folder that relative file names of the tasks start from; `--data_dir` overrides it.
        tfds_dir: Folder of prepared data sets of TensorFlow Datasets, and where it puts what it
            downloads; null is its own default, `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
        cache_dir: Where token stores are kept; null is `$MTDNN_CACHE_DIR` or `~/.cache/mtdnn_tf`.
        max_length: Most word pieces of an example, `[CLS]` and `[SEP]` included.
        truncation: What is kept of a longer one. How much of each text of a pair is kept is the same:
            only the longer one is cut, as long as it stays the longer one. `longest_first` keeps the
            beginning of a text; `head_tail` the first quarter and the last three quarters of what it
            may have.
        windows: A longer one is read as up to so many windows of `max_length`, whose vectors are
            averaged; heads, losses and weights are of the example as before. What goes on in the next
            window is the longer text of a pair, each time with the whole other text, if that leaves a
            quarter of the window, else with as much of it as without windows. They are spread evenly
            and overlap by a quarter at least; what is longer still is cut. They go into one row of a
            batch. Not with SAN heads, which read words.
        on_bad_row: `error` stops at the first bad row; `skip` leaves bad rows out and counts them.
        folds: Task name to the part of its training examples that is left out, as for the teachers of
            `distillation.cross_fitted`.
        subsets: Task name to the part of its training examples that is used, drawn from what is left.
    """

    source: SourceName = "files"
    data_dir: LocalPath | None = None
    tfds_dir: LocalPath | None = None
    cache_dir: LocalPath | None = None
    max_length: Annotated[StrictInt, Field(ge=3)] = 128
    truncation: Truncation = "longest_first"
    windows: Positive = 1
    on_bad_row: OnBadRow = "error"
    folds: dict[str, Fold] = {}
    subsets: dict[str, Subset] = {}

    @property
    def cutting(self) -> dict[str, Any]:
        """How a tokenizer cuts texts: arguments of `Tokenizer`."""
        return self.model_dump(include=set(CUTTING))

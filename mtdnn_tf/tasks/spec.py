"""What a task is: the one description that data, model, losses, metrics and files share."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    StrictFloat,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from mtdnn_tf.tasks.heads import HEADS, Rate, SANSettings
from mtdnn_tf.tasks.kinds import KindName
from mtdnn_tf.tasks.metrics import METRICS
from mtdnn_tf.tasks.names import check_fields
from mtdnn_tf.tasks.split import LabelName, LabelText, OnBadRow, SplitSpec
from mtdnn_tf.validation.fields import LocalPath, Section, is_saved

MetricName = Annotated[
    str,
    AfterValidator(lambda name: METRICS.find(name).name),
    WithJsonSchema({"type": "string", "enum": list(METRICS)}),
]

HeadName = Annotated[
    str,
    AfterValidator(lambda name: HEADS.find(name).name),
    WithJsonSchema({"type": "string", "enum": list(HEADS)}),
]

# What a task that is predicted with another's head cannot have.
HEAD_FIELDS = (
    "labels",
    "label_values",
    "score_range",
    "metrics",
    "head",
    "san",
    "dropout",
    "loss_weight",
    "ranking",
)
UNLABELLED = "unlabelled"
NAME_PATTERN = r"^[a-z][a-z0-9_]*$"


class RankingSettings(Section):
    """The relevance and the loss of a ranking task (arXiv 1901.11504, Eqs 5, 8 and 9).

    Attributes:
        activation: g of Eq 5, the relevance `g(w x)`: `none` as in the released code, or `sigmoid`
            as the paper writes. With `sigmoid` and gamma 1 the better of two candidates cannot
            reach a probability above 0.731.
        gamma: Factor of the relevance in the softmax over a query's candidates (Eq 9).
        incomplete_groups: What to do in a labelled split with a query that lacks a right or a wrong
            candidate: `error`, or `skip` it and report how many were left.
    """

    activation: Literal["none", "sigmoid"] = "none"
    gamma: Annotated[StrictFloat, Field(gt=0)] = 1.0
    incomplete_groups: OnBadRow = "error"


class TaskSpec(Section):
    """A task of language understanding over one sentence, a pair, or a query with candidates.

    Splits are known by name: `train` is trained on, those that begin with `dev` are evaluated,
    those that begin with `test` can be predicted.

    Attributes:
        name: What the task is called everywhere; lower case, digits and underscores.
        kind: Classification of a sentence or of a pair, similarity (a real number for a pair), or
            ranking: a query's candidates in the order of their relevance. Rows with the same text
            in the first field are one query; its candidates stay together in a batch.
        fields: The text fields in the order the encoder sees them: ASCII letters, digits and `_ . / -`,
            but no word of Python's. Whatever a file calls them, its `columns` say.
        labels: Label names; a label's class id is its position here, whatever the source says. Of
            the two of a ranking task, the second is that of a right candidate.
        label_values: Maps what a file says (`"0"`) to a label name; what is not listed must itself
            be a label name.
        ranking: How a ranking task scores and learns.
        score_range: The lowest and highest score of a similarity task.
        metrics: What is reported; the mean of a task's metrics, over its dev splits, is its score.
            At least one.
        head: The output layer on top of the shared encoder: `linear`, on the example's vector, or
            `san`, a stochastic answer network on the words of both texts (`pair_classification`).
        san: Settings of `head: san`.
        dropout: Dropout rate before the output layer, in [0, 1).
        loss_weight: Factor of this task's loss in the sum.
        folder: A folder of the data directory that the files of the splits are looked for in before
            the data directory itself; a built-in suite's name, so that one data directory can hold
            several benchmarks.
        splits: Split name to its rows. `unlabelled` holds text without labels that teachers label in
            distillation, beside `train`.
        predict_with: Name of another task whose head and labels predict this one's `test` splits
            (GLUE's diagnostics, by the MNLI head). Such a task has nothing of its own but fields
            and unlabelled test splits.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    kind: KindName
    description: str = ""
    fields: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    labels: tuple[LabelName, ...] = ()
    label_values: dict[LabelText, LabelText] = {}
    score_range: tuple[StrictFloat, StrictFloat] | None = None
    ranking: RankingSettings | None = None
    metrics: tuple[MetricName, ...] = ()
    head: HeadName = "linear"
    san: SANSettings | None = None
    dropout: Rate = 0.1
    loss_weight: Annotated[StrictFloat, Field(gt=0)] = 1.0
    folder: LocalPath | None = None
    splits: dict[str, SplitSpec]
    predict_with: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None

    @property
    def has_head(self) -> bool:
        """Whether the task has an output layer of its own."""
        return self.predict_with is None

    @property
    def ranking_settings(self) -> RankingSettings:
        """`ranking`, or its defaults."""
        return self.ranking or RankingSettings()

    @property
    def output_size(self) -> int:
        """Size of the last axis of the task's logits; a ValueError without a head of its own."""
        if not self.has_head:
            raise ValueError(f"task {self.name} is predicted with the head of {self.predict_with}")
        return self.kind.output_size(self)

    def splits_like(self, prefix: str) -> tuple[str, ...]:
        """Names of the splits that begin with `prefix` (`dev`, `test`), in the spec's order."""
        return tuple(name for name in self.splits if name.startswith(prefix))

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if len(self.fields) != self.kind.texts:
            raise ValueError(
                f"a {self.kind} task has {self.kind.texts} text field(s), not {self.fields}"
            )
        if not is_saved(info):
            check_fields(self.fields)
        if self.has_head:
            self._check_answers()
        else:
            self._check_predict_with()
        for split_name, split in self.splits.items():
            self._check_split(split_name, split)
        return self

    def _check_answers(self) -> None:
        if not self.metrics:
            raise ValueError("metrics must name at least one")
        HEADS[self.head].check(self)
        if wrong := [m for m in self.metrics if m not in self.kind.metrics]:
            raise ValueError(f"metric {wrong[0]!r} does not fit a {self.kind} task")
        if self.ranking is not None and not self.kind.by_query:
            raise ValueError("ranking is for ranking tasks")
        self.kind.check(self)

    def _check_predict_with(self) -> None:
        for name in HEAD_FIELDS:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"a task with predict_with has no {name} of its own")
        for split_name, split in self.splits.items():
            if not split_name.startswith("test") or split.has_labels:
                raise ValueError(
                    f"a task with predict_with has only test splits with `label: null`; "
                    f"{split_name} is not one"
                )

    def _check_split(self, split_name: str, split: SplitSpec) -> None:
        if not re.fullmatch(rf"train|{UNLABELLED}|(dev|test)[a-z0-9_]*", split_name):
            raise ValueError(
                f"splits.{split_name}: a split is called train or {UNLABELLED}, or begins with dev "
                "or test"
            )
        if split_name == UNLABELLED and (split.has_labels or self.kind.by_query):
            raise ValueError(
                f"splits.{split_name}: expected columns with `label: null`, and no ranking task"
            )
        where = f"splits.{split_name}.columns"
        names = (*self.fields, "label", "uid")
        if unknown := [name for name in split.columns if name not in names]:
            raise ValueError(f"{where} names {unknown[0]!r}; expected one of {names}")
        for name in self.fields:
            if split.column_of(name) is None:
                raise ValueError(f"{where}.{name}: a text field must have a column")
        if split.candidate_lists and not self.kind.by_query:
            raise ValueError(f"splits.{split_name}.candidate_lists is for ranking tasks")
        if not split.has_labels and not split_name.startswith(("test", UNLABELLED)):
            raise ValueError(
                f"{where}.label: only test splits and {UNLABELLED} can be without labels"
            )
        if not split.header and not split.has_keys:
            for name in names:
                if isinstance(split.column_of(name), str):
                    raise ValueError(f"{where}.{name}: without a header, give its 0-based position")

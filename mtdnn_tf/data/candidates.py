"""The candidates of a ranking task: from rows to groups, one a query."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtdnn_tf.data.row import BadRow, Row, cell_of, check_uid, hash_of, shown, value_of
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks.spec import OnBadRow, SplitSpec, TaskSpec


class Groups(NamedTuple):
    """Rows put together by query.

    Attributes:
        order: [kept rows] int64, positions of the rows, those of a query beside each other.
        groups: [kept rows] int32, the number of each row's query, from 0.
        queries: How many queries there were, those left out as well.
    """

    order: np.ndarray
    groups: np.ndarray
    queries: int


def parse_candidates(task: TaskSpec, spec: SplitSpec, row: Mapping[str, Any]) -> list[Row]:
    """Reads a row with one query and the list of its candidates; see `candidate_lists`.

    Raises:
        BadRow: It is not that.
    """
    query, candidates = (value_of(row, name, str(spec.column_of(name))) for name in task.fields)
    query = cell_of(task.fields[0], query, allow_number=False).strip()
    if not query:
        raise BadRow(f"{task.fields[0]} is empty, expected text")
    is_list = isinstance(candidates, list) and len(candidates) > 0
    if not is_list or not all(isinstance(text, str) and text.strip() for text in candidates):
        raise BadRow(f"{task.fields[1]} is {shown(candidates)}, expected a list of texts")
    right = _right(row, str(spec.column_of("label")), len(candidates)) if spec.has_labels else set()
    uid = _uid(row, spec.column_of("uid"))
    texts = [cell_of(task.fields[1], text, allow_number=False).strip() for text in candidates]
    return [Row([query, text], float(n in right), uid) for n, text in enumerate(texts)]


def _uid(row: Mapping[str, Any], key: str | int | None) -> str:
    if key is None:
        return ""
    uid = cell_of(str(key), value_of(row, "uid", str(key)), allow_number=True).strip()
    check_uid(uid)
    return uid


def _right(row: Mapping[str, Any], key: str, count: int) -> set[int]:
    """Positions of the right candidates."""
    label = value_of(row, "label", key)
    positions = set()
    for position in label if isinstance(label, list) else [label]:
        # A bool is an int as well; pandas makes 1.0 of 1 where a value is missing.
        if type(position) not in (int, float) or position not in range(count):
            raise BadRow(
                f"{key} is {shown(label)}, expected positions from 0 to {count - 1} "
                "in the list of candidates"
            )
        positions.add(int(position))
    return positions


class Queries:
    """The queries of a ranking task's rows, numbered in the order in which they come.

    Args:
        task: The task.
        spec: The split's layout: with candidate lists a query is a row of the file.
    """

    def __init__(self, task: TaskSpec, spec: SplitSpec) -> None:
        self._task, self._by_place = task, spec.candidate_lists
        self._numbers: dict[bytes, int] = {}
        self._of_rows: list[int] = []
        self._places: list[str] = []

    def add(self, query: str, place: str) -> None:
        """Takes the next row: the text of its query, and where it stands."""
        # A hash is shorter than most queries, and no two have the same.
        key = hash_of(place if self._by_place else query)
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self._places):
            self._places.append(place)
        self._of_rows.append(number)

    def grouped(self, labels: np.ndarray | None) -> tuple[Groups, list[str]]:
        """The rows of each query beside each other, and what a user should know of it.

        Args:
            labels: [rows] 1 for a right candidate, 0 for a wrong one; None without labels.

        Raises:
            UserError: See `group_rows`.
        """
        rows = np.array(self._of_rows, np.int32)
        found = group_rows(self._task, rows, labels, self._places)
        kept, count = int(found.groups[-1]) + 1, found.queries
        if kept == count:
            return found, []
        return found, [
            f"{kept:,} of {count:,} queries have candidates of both labels ({kept / count:.1%}), with "
            f"{len(found.order):,} of {len(rows):,} rows; the others are left out"
        ]


def group_rows(
    task: TaskSpec, queries: np.ndarray, labels: np.ndarray | None, places: Sequence[str]
) -> Groups:
    """Puts the rows of a query together, in the order in which queries come first.

    Args:
        task: A ranking task.
        queries: [rows] int, the number of each row's query, in the order in which they come first.
        labels: [rows] 1 for a right candidate, 0 for a wrong one; None without labels.
        places: [queries] file and line of each query's first row, for messages.

    Raises:
        UserError: A query lacks a right or a wrong candidate and the task does not skip it, or no
            query is left.
    """
    count = len(places)
    kept = np.ones(count, bool)
    if labels is not None:
        kept = _complete(task, queries, labels, places)
    order = np.argsort(queries, kind="stable")
    order = order[kept[queries[order]]]
    return Groups(order, (np.cumsum(kept) - 1)[queries[order]].astype(np.int32), count)


def _complete(
    task: TaskSpec, queries: np.ndarray, labels: np.ndarray, places: Sequence[str]
) -> np.ndarray:
    """Which queries have both a right and a wrong candidate, [queries] bool."""
    right = np.bincount(queries, weights=labels, minlength=len(places))
    wrong = np.bincount(queries, weights=1 - labels, minlength=len(places))
    complete = (right > 0) & (wrong > 0)
    policy: OnBadRow = task.ranking_settings.incomplete_groups
    if policy == "error" and not complete.all():
        query = int(np.argmin(complete))
        label = task.labels[0 if right[query] else 1]
        raise UserError(
            f"{places[query]}: this query has no candidate labelled {label!r}; ranking needs one of "
            "both labels (ranking.incomplete_groups: skip leaves such queries out)"
        )
    if not complete.any():
        raise UserError(
            f"task {task.name!r}: none of the {len(places)} queries has candidates of both labels"
        )
    return complete

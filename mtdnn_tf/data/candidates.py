"""The candidates of a ranking task: from rows to groups, one a query."""

import json
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtdnn_tf.data.row import BadRow, Row, json_object, value_of
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


def parse_candidates(task: TaskSpec, spec: SplitSpec, line: str) -> list[Row]:
    """Reads a JSON line of one query and the list of its candidates; see `candidate_lists`.

    Raises:
        BadRow: It is not that.
    """
    row = json_object(line)
    query, candidates = (value_of(row, name, str(spec.column_of(name))) for name in task.fields)
    if not isinstance(query, str) or not query.strip():
        raise BadRow(f"{task.fields[0]} is {json.dumps(query)[:40]}, expected a text")
    is_list = isinstance(candidates, list) and len(candidates) > 0
    if not is_list or not all(isinstance(text, str) and text.strip() for text in candidates):
        raise BadRow(f"{task.fields[1]} is {json.dumps(candidates)[:40]}, expected a list of texts")
    right = _right(row, str(spec.column_of("label")), len(candidates)) if spec.has_labels else set()
    uid = "" if spec.column_of("uid") is None else value_of(row, "uid", str(spec.column_of("uid")))
    if not isinstance(uid, str | int) or isinstance(uid, bool):
        raise BadRow(f"uid is {json.dumps(uid)[:40]}, expected a text or a number")
    return [
        Row([query.strip(), text.strip()], float(position in right), str(uid).strip())
        for position, text in enumerate(candidates)
    ]


def _right(row: dict[str, Any], key: str, count: int) -> set[int]:
    """Positions of the right candidates."""
    label = value_of(row, "label", key)
    positions = set()
    for position in label if isinstance(label, list) else [label]:
        if type(position) is not int or not 0 <= position < count:  # A bool is an int as well.
            raise BadRow(
                f"{key} is {json.dumps(label)[:40]}, expected positions from 0 to {count - 1} "
                "in the list of candidates"
            )
        positions.add(position)
    return positions


def group_rows(
    task: TaskSpec,
    queries: Sequence[Hashable],
    labels: np.ndarray | None,
    places: Sequence[str],
) -> Groups:
    """Puts the rows of a query together, in the order in which queries come first.

    Args:
        task: A ranking task.
        queries: [rows] what tells the queries apart.
        labels: [rows] 1 for a right candidate, 0 for a wrong one; None without labels.
        places: [rows] file and line, for messages.

    Raises:
        UserError: A query lacks a right or a wrong candidate and the task does not skip it, or no
            query is left.
    """
    number: dict[Hashable, int] = {}
    groups = np.array([number.setdefault(query, len(number)) for query in queries], np.int32)
    kept = np.ones(len(number), bool)
    if labels is not None:
        kept = _complete(task, groups, labels, places, len(number))
    order = np.argsort(groups, kind="stable")
    order = order[kept[groups[order]]]
    return Groups(order, (np.cumsum(kept) - 1)[groups[order]].astype(np.int32), len(number))


def _complete(
    task: TaskSpec, groups: np.ndarray, labels: np.ndarray, places: Sequence[str], count: int
) -> np.ndarray:
    """Which queries have both a right and a wrong candidate, [queries] bool."""
    right = np.bincount(groups, weights=labels, minlength=count)
    wrong = np.bincount(groups, weights=1 - labels, minlength=count)
    complete = (right > 0) & (wrong > 0)
    policy: OnBadRow = task.ranking_settings.incomplete_groups
    if policy == "error" and not complete.all():
        query = int(np.argmin(complete))
        label = task.labels[0 if right[query] else 1]
        place = places[int(np.argmax(groups == query))]
        raise UserError(
            f"{place}: this query has no candidate labelled {label!r}; ranking needs one of both "
            "labels (ranking.incomplete_groups: skip leaves such queries out)"
        )
    if not complete.any():
        raise UserError(
            f"task {task.name!r}: none of the {count} queries has candidates of both labels"
        )
    return complete

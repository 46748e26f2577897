"""Names that tasks and their fields can have: an exported model and files of predictions carry them."""

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence

# The signatures of an exported model, beside one for each task; see `serving.export.signatures`.
MIXED, ENCODE = "serving_default", "encode"
TOGETHER = {"all_single": 1, "all_pair": 2}  # Texts that the tasks of a signature take.
TOKENS = "{}_tokens"

_FIELD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")  # What TensorFlow calls nodes of a graph.


def check_fields(fields: Sequence[str]) -> None:
    """Refuses names of text fields that the inputs of a signature cannot have.

    Raises:
        ValueError: One is not such a name, or TensorFlow takes two for the same.
    """
    for field in fields:
        if not _FIELD.fullmatch(field) or keyword.iskeyword(field) or field == "self":
            # TensorFlow has functions with arguments of these names.
            raise ValueError(
                f"fields: {field!r} cannot be the name of a field; expected letters from a to z, digits "
                "and _ . / - after a letter or digit, and no word of Python's. What a file calls it "
                f'stands in its split: columns: {{text: "{field}"}}'
            )
    known = ["label", "uid", *(re.sub("[./-]", "_", field).lower() for field in fields)]
    if len(set(known)) < len(known):
        raise ValueError(
            "fields must differ, by more than case and punctuation, and not be called label or uid: "
            f"{tuple(fields)}"
        )


def check_tasks(splits: Mapping[str, Iterable[str]]) -> None:
    """Refuses names of tasks that go together with those of nothing else.

    Args:
        splits: Task to the names of its splits.

    Raises:
        ValueError: Two signatures of the exported model, or two files of predictions, would have one
            name.
    """
    signatures = {MIXED, ENCODE, *TOGETHER, *map(TOKENS.format, splits)}
    files: dict[str, str] = {}
    for task, names in splits.items():
        if task in signatures:
            raise ValueError(
                f"tasks.{task}: the exported model has another signature of that name; rename the task"
            )
        for split in names:
            other = files.setdefault(f"{task}_{split}", task)
            if other != task:
                raise ValueError(
                    f"tasks.{task}.splits.{split}: its file of predictions would be {task}_{split}.tsv, "
                    f"as that of a split of {other}; rename one of the splits"
                )

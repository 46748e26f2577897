"""The numbers of a run, a JSON object a line."""

import json
from pathlib import Path
from typing import Any

from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically

# What a record has beside its kind.
KEYS = {
    "train": {"step", "epoch", "loss", "examples"},
    "dev": {"step", "epoch", "metrics", "scores", "mean"},
}


class MetricsLog:
    """`metrics.jsonl`: the losses of every loop, the dev metrics of every epoch.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Appends a record.

        Raises:
            UserError: It cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error

    def read(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records; a last line cut off by a kill is left out.

        Args:
            kind: `train` or `dev`; by default both.

        Raises:
            UserError: The file is broken.
        """
        if not self.path.is_file():
            return []
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
            records = [json.loads(line) for line in lines[:-1]]
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {self.path}: {error}") from error
        for number, record in enumerate(records, start=1):
            check_record(record, f"{self.path}:{number}")
        return [record for record in records if kind in (None, record["kind"])]

    def rewind(self, step: int, epochs_evaluated: int) -> None:
        """Drops the records that come after a training state, which will be written again.

        Args:
            step: The updates that the state has behind it.
            epochs_evaluated: The evaluations that it has behind it.
        """
        kept = [
            record
            for record in self.read()
            if record["step"] <= step
            and (record["kind"] != "dev" or record["epoch"] <= epochs_evaluated)
        ]
        write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in kept))


def check_record(record: Any, where: str) -> None:
    """Checks that a record has what those of its kind have.

    Raises:
        UserError: It has not.
    """
    kind = record.get("kind") if isinstance(record, dict) else None
    if kind not in KEYS:
        raise UserError(f"{where}: expected a record whose kind is {' or '.join(KEYS)}")
    if missing := sorted(KEYS[kind] - set(record)):
        raise UserError(f"{where}: expected a {kind} record with {', '.join(missing)}")

"""The run directory: one self-contained folder that a run leaves and everything later reads.

config.yaml     the command that began the run, and the experiment with the full spec of every task
data.json       rows, skipped rows and hashes of every split
encoder/        config.json, the encoder's configuration in Hugging Face's keys; source.json, the name,
                the commit and the SHA-256 of the files that it was read from
vocab.txt tokenizer.json
checkpoints/    last/ and best/
metrics.jsonl   losses of every loop, dev metrics of every epoch
predictions/    the dev predictions of the best checkpoint, a file a task and split
events/         the same numbers for TensorBoard
"""

import contextlib
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from mtdnn_tf.config import Experiment
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically
from mtdnn_tf.validation import validated
from mtdnn_tf.yaml_file import read_yaml

# What may differ between the runs that share a directory: it changes no number.
FREE_SETTINGS = {
    "data.data_dir",
    "data.tfds_dir",
    "data.cache_dir",
    "distillation.cache_dir",
    "training.keep_checkpoints",
    "training.checkpoint_every_steps",
}
_COMMAND = "# Begun by: "
RECORD_KEYS = ("kind", "step")  # Of every record of metrics.jsonl.


class RunDirectory:
    """Paths, lock and small files of a run.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.events = self.path / "events"
        self.predictions = self.path / "predictions"
        self.config_file = self.path / "config.yaml"
        self.encoder = self.path / "encoder"
        self.source_file = self.encoder / "source.json"
        self.data_file = self.path / "data.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self._begun = self.checkpoints / "begun"

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config_file.is_file()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process out; a process that dies gives the lock back.

        Raises:
            UserError: Another process has it, or the folder cannot be made.
        """
        try:
            made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"{self.path} is in use by another process; wait for it, or choose another --workdir"
            ) from error
        except OSError as error:
            raise UserError(f"cannot use the workdir {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            if made and not self.exists:  # Nothing began: leave nothing behind.
                shutil.rmtree(self.path)
            lock.release()

    def make_room(self) -> None:
        """Removes what a start left that was killed before its config was there.

        Raises:
            UserError: There are checkpoints that no such start left.
        """
        if self.checkpoints.exists() and not self._begun.exists():
            raise UserError(
                f"{self.path} has checkpoints but no config.yaml: it is no run, or has lost its config; "
                "choose another --workdir"
            )
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def begin(self) -> None:
        """Marks the checkpoints that follow as those of a run whose config is still to come."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._begun.touch()

    def read_experiment(self) -> Experiment:
        """Reads the experiment of the run.

        Raises:
            UserError: There is no run here.
        """
        if not self.exists:
            raise UserError(f"{self.path} is not a run directory: it has no config.yaml")
        return validated(Experiment, read_yaml(self.config_file), str(self.config_file))

    def write_experiment(self, experiment: Experiment) -> None:
        """Writes the experiment, after this process' command; from then on the directory is a run."""
        command = shlex.join(["python", *sys.orig_argv[1:]]).replace("\n", " ")
        tree = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, width=100)
        write_atomically(self.config_file, f"{_COMMAND}{command}\n{tree}")
        self._begun.unlink(missing_ok=True)

    def remove_partial_files(self) -> None:
        """Removes files that a process that was killed had not written whole; under the lock."""
        for path in self.path.glob("*.partial-*"):
            path.unlink()

    def read_command(self) -> str | None:
        """The command that began the run; None where it is not known."""
        first = self.config_file.read_text(encoding="utf-8").split("\n", 1)[0]
        return first.removeprefix(_COMMAND) if first.startswith(_COMMAND) else None

    def check_same(self, experiment: Experiment) -> None:
        """Compares the run that is here with the experiment that is to go on in it.

        A pooling of `auto` is what the run has.

        Raises:
            UserError: They differ in something that changes results; names what.
        """
        there, here = fixed_settings(self.read_experiment()), fixed_settings(experiment)
        if experiment.encoder.pooling == "auto":
            here["encoder.pooling"] = there["encoder.pooling"]
        differences = [
            f"{key} is {there.get(key)!r} there and {here.get(key)!r} now"
            for key in {**there, **here}
            if there.get(key) != here.get(key)
        ]
        if differences:
            more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
            raise UserError(
                f"{self.path} holds a run of another config: {'; '.join(differences[:3])}{more}; "
                "choose another --workdir"
            )

    def read_json(self, path: Path) -> Any:
        """Reads one of the run's JSON files.

        Raises:
            UserError: It is missing or broken.
        """
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {error}") from error

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Appends one record to `metrics.jsonl`.

        Raises:
            UserError: It cannot be written.
        """
        try:
            with self.metrics_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.metrics_file}: {error.strerror}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The records of `metrics.jsonl`; a last line cut off by a kill is left out.

        Raises:
            UserError: It is broken.
        """
        if not self.metrics_file.is_file():
            return []
        try:
            lines = self.metrics_file.read_text(encoding="utf-8").split("\n")
            records = [json.loads(line) for line in lines[:-1]]
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {self.metrics_file}: {error}") from error
        for number, record in enumerate(records, start=1):
            if not isinstance(record, dict) or not set(RECORD_KEYS) <= set(record):
                raise UserError(
                    f"{self.metrics_file}:{number}: expected a record with {', '.join(RECORD_KEYS)}"
                )
        return records

    def best_dev(self) -> dict[str, Any]:
        """The record of `metrics.jsonl` with the best mean of the dev scores.

        Raises:
            UserError: There is none yet.
        """
        dev = [record for record in self.read_metrics() if record["kind"] == "dev"]
        if not dev:
            raise UserError(f"{self.metrics_file} has no dev metrics yet")
        return max(dev, key=lambda record: record["mean"])

    def rewind_metrics(self, step: int, epochs_evaluated: int) -> None:
        """Drops the records that come after a training state, which will be written again.

        Args:
            step: The updates that the state has behind it.
            epochs_evaluated: The evaluations that it has behind it.
        """
        kept = [
            record
            for record in self.read_metrics()
            if record["step"] <= step
            and (record["kind"] != "dev" or record["epoch"] <= epochs_evaluated)
        ]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(self.metrics_file, text)


def fixed_settings(experiment: Experiment) -> dict[str, Any]:
    """Dotted key to value of all settings that change numbers, and the order of tasks."""
    flat = dict(_flat(experiment.model_dump(mode="json")))
    flat["the order of tasks"] = ",".join(experiment.tasks)
    return {key: value for key, value in flat.items() if key not in FREE_SETTINGS}


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree

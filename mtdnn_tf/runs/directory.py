"""The run directory: one self-contained folder that a run leaves and everything later reads.

config.yaml     the command that began the run, and the experiment with the full spec of every task
data.json       rows, skipped rows and hashes of every split
encoder/        config.json, the encoder's configuration in Hugging Face's keys; source.json, the name,
                the commit and the SHA-256 of the files that it was read from
vocab.txt tokenizer.json
files.json      the hashes of the small files above but for config.yaml
checkpoints/    last/ and best/, see `CheckpointFolder`
metrics.jsonl   losses of every loop, dev metrics of every epoch
predictions/    the dev predictions of the best checkpoint, a file a task and split
events/         the same numbers for TensorBoard
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import build_experiment
from mtdnn_tf.experiment.saved import current_tree, saved_tree
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.files import write_atomically
from mtdnn_tf.runs.checkpoint_folder import CheckpointFolder, number_of
from mtdnn_tf.runs.metrics_log import MetricsLog, check_record
from mtdnn_tf.validation.yaml_file import read_yaml, yaml_text

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
_END = "# The end."  # A config that was cut off would be read with defaults for what it lacks.
# What never changes after a run has begun; `files.json` has their hashes.
FIXED_FILES = ("data.json", "encoder/config.json", "tokenizer.json", "vocab.txt")


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
        self.metrics = MetricsLog(self.path / "metrics.jsonl")
        self.best = CheckpointFolder(self.checkpoints / "best")
        self._files_file = self.path / "files.json"
        self._lock_file = self.path / ".lock"
        self._begun = self.checkpoints / "begun"

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config_file.is_file()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process out; a process that dies gives the lock back.

        Raises:
            UserError: Another process has it, or the folder cannot be made or has a name that a list
                of runs would be cut at.
        """
        if "," in str(self.path) and not self.exists:
            raise UserError(
                f"cannot use the workdir {self.path}: ',' stands between the runs of an ensemble, as in "
                "--workdir=a,b; choose a name without it"
            )
        try:
            made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._lock_file)
            lock.acquire(timeout=1)  # `is_in_use` may have it for a moment.
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

    @property
    def is_in_use(self) -> bool:
        """Whether a process has the lock; not known, and so False, where it cannot be written."""
        if not os.access(self._lock_file, os.W_OK):
            return False
        try:
            with FileLock(self._lock_file, timeout=0):
                return False
        except Timeout:
            return True

    def make_room(self) -> None:
        """Removes what a start left that was killed before its config was there.

        Raises:
            UserError: There are checkpoints that no such start left.
        """
        if any(self.checkpoints.glob("*")) and not self._begun.exists():
            raise UserError(
                f"{self.path} has checkpoints but no config.yaml: it is no run, or has lost its config; "
                "choose another --workdir"
            )
        # It is empty in earlier versions, and where a start was killed before it wrote another file.
        text = self._begun.read_text(encoding="utf-8") if self._begun.exists() else ""
        for name in json.loads(text or "[]"):
            (self.path / name).unlink(missing_ok=True)
        for folder in self.checkpoints.glob("*/"):  # The mark goes last.
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def begin(self, others: Iterable[str] = ()) -> None:
        """Marks what follows as that of a run whose config is still to come.

        Args:
            others: The files that a start writes besides the `FIXED_FILES` and checkpoints.
        """
        own = [path.relative_to(self.path) for path in (self._files_file, self.source_file)]
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        names = [*FIXED_FILES, *map(str, own), *others]
        self._begun.write_text(json.dumps(names), encoding="utf-8")

    def read_experiment(self) -> Experiment:
        """Reads the experiment of the run, after a look at the run's other small files.

        Raises:
            UserError: There is no run here, or a file of it is damaged.
        """
        if not self.exists:
            raise UserError(f"{self.path} is not a run directory: it has no config.yaml")
        self._check_files()
        where = str(self.config_file)
        tree = current_tree(read_yaml(self.config_file), where)
        return build_experiment(tree, where, saved=True)

    def write_experiment(self, experiment: Experiment) -> None:
        """Writes the experiment, after this process' command; from then on the directory is a run."""
        words = ["python", *sys.orig_argv[1:]]
        script = Path(words[min(1, len(words) - 1)]).name
        if script.startswith("mtdnn-"):  # A console command.
            words[:2] = [script]
        command = shlex.join(words)
        text = yaml_text(saved_tree(experiment))
        write_atomically(self.config_file, f"{_COMMAND}{json.dumps(command)}\n{text}{_END}\n")
        self._begun.unlink(missing_ok=True)

    def write_hashes(self) -> None:
        """Notes what is in the `FIXED_FILES`, all of which are there."""
        hashes = {name: self._hash(name) for name in FIXED_FILES}
        write_atomically(self._files_file, json.dumps(hashes, indent=2) + "\n")

    def _check_files(self) -> None:
        """Checks that the small files are whole; runs of earlier versions have nothing to check by."""
        if not self._files_file.exists():
            return
        if not self.config_file.read_bytes().rstrip().endswith(_END.encode()):
            raise UserError(f"{self.config_file} is cut off: its last line is not {_END!r}")
        for name, noted in self.read_json(self._files_file).items():
            if self._hash(name) != noted:
                raise UserError(
                    f"{self.path / name} is damaged: it is not the file that the run began with; put "
                    "that back from a copy of the run"
                )

    def _hash(self, name: str) -> str:
        try:
            return hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"cannot read {self.path / name}: {error.strerror}") from error

    def remove_partial_files(self) -> None:
        """Removes what a process that was killed had not written whole or removed; under the lock."""
        self._begun.unlink(missing_ok=True)
        for path in self.path.glob("*.partial-*"):
            path.unlink()

    def read_command(self) -> str | None:
        """The command that began the run; None where it is not known."""
        first = self.config_file.read_text(encoding="utf-8").split("\n", 1)[0]
        if not first.startswith(_COMMAND):
            return None
        command = first.removeprefix(_COMMAND)
        if command.startswith('"'):  # Runs of earlier versions have it without quotes.
            command = json.loads(command)
        return command.encode(errors="backslashreplace").decode()

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

    def read_json(self, path: Path) -> dict[str, Any]:
        """Reads one of the run's JSON files.

        Raises:
            UserError: It is missing or broken.
        """
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        if not isinstance(tree, dict):
            raise UserError(f"cannot read {path}: expected a JSON object")
        return tree

    def dev_record(self, checkpoint: Path) -> dict[str, Any] | None:
        """The record of the dev metrics of a best checkpoint; None where it was not evaluated.

        Runs of earlier versions have it in `metrics.jsonl` alone, at the checkpoint's step.

        Args:
            checkpoint: One of `best`, which may be gone by now.

        Raises:
            UserError: The record is broken.
        """
        own = checkpoint.with_suffix(".json")
        if own.exists():
            record = self.read_json(own)
            check_record(record, str(own))
            return record
        step = number_of(checkpoint)
        return next((r for r in self.metrics.read("dev") if r["step"] == step), None)

    def best_dev(self) -> dict[str, Any]:
        """The record of the dev metrics of the best checkpoint.

        Where the checkpoints were removed, that of `metrics.jsonl` with the best mean.

        Raises:
            UserError: There is none.
        """
        if checkpoints := self.best.newest_first():
            record = self.dev_record(checkpoints[0])
        else:
            record = max(self.metrics.read("dev"), key=lambda r: r["mean"], default=None)
        if record is None:
            raise UserError(f"{self.path} has no dev metrics of a best checkpoint")
        return record


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

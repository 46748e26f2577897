"""Checkpoints: raw variables by their path, written atomically, the last few and the best kept."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained.tf_checkpoint import CheckpointReader
from mtdnn_tf.runs.checkpoint_folder import CheckpointFolder, number_of

Parts = Mapping[str, Mapping[str, tf.Variable]]  # Of a checkpoint: each one's variables by name.


class OtherModelError(UserError):
    """A checkpoint is whole, but of a model with other variables."""


class Checkpoints:
    """The checkpoints of a run: `last/`, whole training states, and `best/`, the best model.

    Variables are stored raw and by path: a checkpoint of the Keras objects leaves out the state of
    dropout's random generators, and a run resumed from it would differ from an unbroken one.

    Args:
        folder: Holds `last/` and `best/`.
        model: The model.
        optimizer: Its optimizer; None to read the model alone.
        state: Further variables of the training state, by name.
        keep: How many of the last checkpoints are kept.
        writes: Whether this process writes the folder; where it does not, saving does nothing.
        average: The average of each weight, by path, where the run has one.
    """

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
        state: dict[str, tf.Variable] | None = None,
        keep: int = 2,
        writes: bool = True,
        average: dict[str, tf.Variable] | None = None,
    ) -> None:
        self._writes, self._keep = writes, keep
        self._model = {"model": raw_variables(model.variables)}
        self._training = self._model | {"state": state or {}}
        if optimizer is not None:
            self._training["optimizer"] = raw_variables(optimizer.variables)
        if average is not None:
            self._training["average"] = average
        self._folders = {name: CheckpointFolder(folder / name) for name in ("last", "best")}
        self._number = -1  # Of the state that was saved or restored last.

    def save(self, number: int) -> None:
        """Saves the whole training state, unless this very state is saved already.

        Args:
            number: The state's number; grows with every change of the state.

        Raises:
            UserError: It could not be written, such as on a full disk; earlier ones are untouched.
        """
        if number != self._number:
            self._save("last", self._training, number, self._keep, self._number)
        self._number = number

    def save_best(self, step: int, dev: dict[str, Any] | None) -> None:
        """Saves the model as the best so far.

        Args:
            step: Its updates.
            dev: Its record of dev metrics, which is kept beside it; None without dev splits.

        Raises:
            UserError: As `save`.
        """
        self._save("best", self._model, step, 1, dev=dev)

    def _save(
        self,
        which: str,
        parts: Parts,
        number: int,
        keep: int,
        before: int | None = None,
        dev: dict[str, Any] | None = None,
    ) -> None:
        if not self._writes:
            return
        folder = self._folders[which]
        try:
            with folder.written(number, keep, before) as path:
                tf.train.Checkpoint(**parts).write(str(path))
                if dev is not None:
                    path.with_suffix(".json").write_text(json.dumps(dev), encoding="utf-8")
        except (tf.errors.OpError, OSError) as error:
            reason = str(getattr(error, "message", error)).splitlines()[0]
            hint = "; the last one before is whole, and the same command goes on from there"
            raise UserError(
                f"cannot write the checkpoint {number} in {folder.path}: {reason}"
                f"{hint if self._folders['last'].newest_first() else ''}"
            ) from error

    def restore(self) -> bool:
        """Restores the newest training state that is whole; whether there was any.

        Raises:
            UserError: None can be read, or one does not hold the variables of this model.
        """
        for folder in self._folders.values() if self._writes else ():
            folder.remove_partial()
        path = read_newest(self._folders["last"], lambda path: _assign(path, self._training))
        if path is not None:
            self._number = number_of(path)
        return path is not None

    def has_best(self) -> bool:
        """Whether the best model is there and can be read."""
        try:
            return read_newest(self._folders["best"], self._read_model) is not None
        except UserError as error:
            logging.warning("%s", error)
            return False

    def _read_model(self, path: Path) -> None:
        for _ in _values(path, self._model):
            pass

    def restore_model(self, which: str = "best") -> Path:
        """Restores the model alone from the `best` or the `last` checkpoint, and says from which.

        Raises:
            UserError: There is none that can be read, or its variables are not this model's.
        """
        folder = self._folders[which]
        path = read_newest(folder, lambda path: _assign(path, self._model))
        if path is None:
            raise UserError(f"no checkpoint in {folder.path}")
        return path


def read_newest(folder: CheckpointFolder, read: Callable[[Path], None]) -> Path | None:
    """Reads the newest checkpoint that can be read, and warns if it is not the newest of all.

    Args:
        folder: Its folder.
        read: Reads a checkpoint; a UserError says that it is damaged.

    Returns:
        Which it was; None if there is none.

    Raises:
        UserError: None can be read, or one is not of this model.
    """
    faults: dict[Path, UserError] = {}
    # The folder is looked at again each time: a run that goes on may have replaced what was there.
    while left := [path for path in folder.newest_first() if path not in faults]:
        try:
            read(left[0])
        except OtherModelError:
            raise
        except UserError as error:
            faults[left[0]] = error
            continue
        for fault in faults.values():
            logging.warning("%s; %s is taken in its place", fault, left[0].name)
        return left[0]
    for fault in faults.values():
        raise fault
    return None


def epochs_evaluated(folder: Path) -> int:
    """How many epochs the last checkpoint of a folder of checkpoints has behind it.

    Raises:
        UserError: It cannot be read.
    """
    found = tf.Variable(0, dtype=tf.int64)
    parts = {"state": {"epochs_evaluated": found}}
    read_newest(CheckpointFolder(folder / "last"), lambda path: _assign(path, parts))
    return int(found.numpy())


def raw_variables(variables: list[keras.Variable]) -> dict[str, tf.Variable]:
    """The TensorFlow variables behind Keras variables, by path."""
    by_path = {variable.path: variable.value for variable in variables}
    if len(by_path) != len(variables):
        raise ValueError("two variables of the model have the same path")
    return by_path


def _key(part: str, name: str) -> str:
    """What a variable is called in a checkpoint."""
    escaped = name.replace(".", "..").replace("/", ".S")
    return f"{part}/{escaped}/.ATTRIBUTES/VARIABLE_VALUE"


def _name(key: str) -> str:
    """The name of a variable without its part."""
    return key.split("/")[1].replace(".S", "/").replace("..", ".")


def _assign(path: Path, parts: Parts) -> None:
    """Gives variables the values that they have in a checkpoint; raises as `_values`."""
    for variable, value in _values(path, parts):
        variable.assign(value)


def _values(path: Path, parts: Parts) -> Iterator[tuple[tf.Variable, Any]]:
    """Yields variables and the values that they have in a checkpoint.

    Args:
        path: The checkpoint.
        parts: What is wanted of it.

    Raises:
        OtherModelError: Lists what is missing, unexpected in the model, or of another shape.
        UserError: It is damaged.
    """
    reader = CheckpointReader(path)
    variables = {
        _key(part, name): variable
        for part, of_part in parts.items()
        for name, variable in of_part.items()
    }
    shapes = reader.shapes
    faults = [f"missing {_name(key)}" for key in variables if key not in shapes]
    if "model" in parts:
        unexpected = [key for key in shapes if key.startswith("model/") and key not in variables]
        faults += [f"unexpected {_name(key)}" for key in unexpected]
    faults += [
        f"{_name(key)} is {shapes[key]}, expected {variable.shape.as_list()}"
        for key, variable in variables.items()
        if key in shapes and shapes[key] != variable.shape.as_list()
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise OtherModelError(
            f"the checkpoint {path} is not of this model: {', '.join(faults[:5])}{more}"
        )
    for key, variable in variables.items():
        yield variable, reader.raw(key)

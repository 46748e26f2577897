"""Checkpoints: raw variables by their path, written atomically, the last few and the best kept."""

import re
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from mtdnn_tf.errors import UserError


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
        self._writes = writes
        self._model = raw_variables(model.variables)
        parts = {"model": self._model, "state": state or {}}
        if optimizer is not None:
            parts["optimizer"] = raw_variables(optimizer.variables)
        if average is not None:
            parts["average"] = average
        self._training = tf.train.Checkpoint(**parts)
        self._model_only = tf.train.Checkpoint(model=self._model)
        self._folders = {"last": folder / "last", "best": folder / "best"}
        self._last = tf.train.CheckpointManager(
            self._training, str(self._folders["last"]), max_to_keep=keep
        )
        self._best = tf.train.CheckpointManager(
            self._model_only, str(self._folders["best"]), max_to_keep=1
        )

    def save(self, number: int) -> None:
        """Saves the whole training state, unless this very state is saved already.

        TensorFlow does not replace a checkpoint of the same number atomically, so a number must
        never come again with another state.

        Args:
            number: The state's number; grows with every change of the state.

        Raises:
            UserError: It could not be written, such as on a full disk; earlier ones are untouched.
        """
        self._save(self._last, number)

    def save_best(self, step: int) -> None:
        """Saves the model as the best so far, unless that of this step is saved already."""
        self._save(self._best, step)

    def _save(self, manager: tf.train.CheckpointManager, number: int) -> None:
        if not self._writes or (manager.latest_checkpoint or "").endswith(f"-{number}"):
            return
        try:
            manager.save(checkpoint_number=number)
        except (tf.errors.OpError, OSError) as error:
            remove_unlisted(Path(manager.directory))
            reason = str(getattr(error, "message", error)).splitlines()[0]
            before = "; the checkpoint before it is whole, and the same command goes on from there"
            raise UserError(
                f"cannot write the checkpoint {number} in {manager.directory}: {reason}"
                f"{before if manager.latest_checkpoint else ''}"
            ) from error

    def restore(self) -> bool:
        """Restores the last training state; whether there was one.

        Raises:
            UserError: The checkpoint does not hold the variables of this model.
        """
        for folder in self._folders.values() if self._writes else ():
            remove_unlisted(folder)
        if self._last.latest_checkpoint is None:
            return False
        _read(self._training, self._last.latest_checkpoint)
        return True

    def restore_model(self, which: str = "best") -> None:
        """Restores the model alone from the `best` or the `last` checkpoint.

        Raises:
            UserError: There is none, or its variables are not this model's.
        """
        path = tf.train.latest_checkpoint(str(self._folders[which]))
        if path is None:
            raise UserError(f"no checkpoint in {self._folders[which]}")
        check_names(path, self._model)
        _read(self._model_only, path)


def epochs_evaluated(folder: Path) -> int:
    """How many epochs the last checkpoint of a folder of checkpoints has behind it.

    Raises:
        UserError: It cannot be read.
    """
    path = tf.train.latest_checkpoint(str(folder / "last"))
    if path is None:
        return 0
    try:
        return int(
            tf.train.load_variable(path, "state/epochs_evaluated/.ATTRIBUTES/VARIABLE_VALUE")
        )
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read the checkpoint {path}: {reason}") from error


def raw_variables(variables: list[keras.Variable]) -> dict[str, tf.Variable]:
    """The TensorFlow variables behind Keras variables, by path."""
    by_path = {variable.path: variable.value for variable in variables}
    if len(by_path) != len(variables):
        raise ValueError("two variables of the model have the same path")
    return by_path


def check_names(path: str, variables: dict[str, tf.Variable]) -> None:
    """Compares the model part of a checkpoint with a model's variables.

    Raises:
        UserError: Lists what is missing, unexpected, or of another shape.
    """
    pattern = re.compile(r"^model/(.+)/\.ATTRIBUTES/VARIABLE_VALUE$")
    found = {}
    for name, shape in _list_variables(path):
        if match := pattern.match(name):
            found[match.group(1).replace(".S", "/").replace("..", ".")] = shape
    faults = [f"missing {name}" for name in variables if name not in found]
    faults += [f"unexpected {name}" for name in found if name not in variables]
    faults += [
        f"{name} is {list(found[name])}, expected {variable.shape.as_list()}"
        for name, variable in variables.items()
        if name in found and list(found[name]) != variable.shape.as_list()
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UserError(
            f"the checkpoint {path} is not of this model: {', '.join(faults[:5])}{more}"
        )


def _list_variables(path: str) -> list[tuple[str, list[int]]]:
    try:
        return tf.train.list_variables(path)
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read the checkpoint {path}: {reason}") from error


def _read(checkpoint: tf.train.Checkpoint, path: str) -> None:
    try:
        status = checkpoint.read(path)
        status.assert_existing_objects_matched()
        status.expect_partial()
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read the checkpoint {path}: {reason}") from error


def remove_unlisted(folder: Path) -> None:
    """Removes what a killed save left: files of checkpoints that the folder does not list."""
    if not folder.is_dir():
        return
    state = tf.train.get_checkpoint_state(str(folder))
    listed = {Path(path).name for path in state.all_model_checkpoint_paths} if state else set()
    for path in folder.glob("ckpt-*"):
        if path.is_dir():  # Where a save collects its parts.
            shutil.rmtree(path)
        elif path.name.split(".")[0] not in listed:
            path.unlink()

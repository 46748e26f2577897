"""Folders with a TensorFlow checkpoint: what Google's and Model Garden's have in common."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained.tokenizer_files import missing_vocab

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # Only object-based (TF2) checkpoints have it.

# A file that is cut off ends in an IndexError of the native reader.
READ_ERRORS = (tf.errors.OpError, IndexError, ValueError, RuntimeError)


class CheckpointReader(Mapping[str, np.ndarray]):
    """The tensors of a checkpoint by their keys, each read when it is asked for.

    Args:
        path: The checkpoint's prefix, such as `folder/bert_model.ckpt`.

    Attributes:
        path: As given.
        shapes: Key to the shape of the tensor.

    Raises:
        UserError: It is no checkpoint; `[key]` raises it where a tensor can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = tf.train.load_checkpoint(self._plain(path))
            self.shapes: dict[str, list[int]] = self._reader.get_variable_to_shape_map()
        except READ_ERRORS as error:
            raise UserError(f"{path}.index: not a readable checkpoint ({_line(error)})") from None

    def __getitem__(self, key: str) -> np.ndarray:
        return np.asarray(self.raw(key), np.float32)

    def __contains__(self, key: object) -> bool:
        return key in self.shapes  # Mapping's own would read the tensor.

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.shapes))

    def __len__(self) -> int:
        return len(self.shapes)

    def _plain(self, path: Path) -> str:
        """The path under a name without what TensorFlow takes for a pattern, as in `run[1]`."""
        if not set(str(path)) & set("[\\"):
            return str(path)
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder)
        (folder / "link").symlink_to(path.parent.absolute())
        return str(folder / "link" / path.name)

    def raw(self, key: str) -> np.ndarray | bytes:
        """A tensor as it is stored; bytes for a string."""
        try:
            return self._reader.get_tensor(key)
        except READ_ERRORS as error:
            raise UserError(
                f"{self.path}: tensor {key!r} can't be read ({_line(error)}); "
                "the data file is broken or cut off"
            ) from None

    @property
    def is_object_based(self) -> bool:
        """Whether `tf.train.Checkpoint` wrote it, and not TF1's `Saver`."""
        return OBJECT_GRAPH in self.shapes


def find_checkpoint(folder: Path) -> Path | None:
    """The prefix of a folder's checkpoint, None if it has none.

    Raises:
        UserError: There are several, and the file `checkpoint` does not say which is the latest.
    """
    found = sorted(path.with_suffix("") for path in folder.glob("*.index"))
    if len(found) < 2:
        return found[0] if found else None
    state = tf.train.get_checkpoint_state(str(folder))
    latest = folder / Path(state.model_checkpoint_path).name if state else None
    if latest not in found:
        names = ", ".join(path.name for path in found)
        raise UserError(
            f"{folder}: several checkpoints ({names}); expected one, or a file 'checkpoint' that "
            "names the latest"
        )
    return latest


def read_checkpoint(folder: Path) -> CheckpointReader:
    """Opens a folder's checkpoint.

    Raises:
        UserError: There is none, or it can't be read.
    """
    path = find_checkpoint(folder)
    if path is None:
        raise UserError(f"{folder}: the folder lacks bert_model.ckpt.index")
    return CheckpointReader(path)


def missing_files(folder: Path, config_file: str) -> list[str]:
    """Names of the files that a folder lacks.

    Raises:
        UserError: See `find_checkpoint`.
    """
    path = find_checkpoint(folder)
    index = "bert_model.ckpt.index" if path is None else f"{path.name}.index"
    data = index.removesuffix("index") + "data-00000-of-00001"
    missing = [name for name in (config_file, index) if not (folder / name).is_file()]
    missing += missing_vocab(folder)
    if path is not None and not list(folder.glob(f"{path.name}.data-*-of-*")):
        missing.append(data)
    return missing


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder's checkpoint.

    Raises:
        UserError: There is none.
    """
    path = read_checkpoint(folder).path
    return [path.with_name(f"{path.name}.index"), *folder.glob(f"{path.name}.data-*-of-*")]


def _line(error: Exception) -> str:
    """The first line of an error."""
    return str(error).strip().split("\n")[0] or type(error).__name__

"""A trained model written as a SavedModel for tensorflow_model_server."""

import errno
import json
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Literal

import tensorflow as tf
from google.protobuf import text_format

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import build_experiment
from mtdnn_tf.pretrained import licences
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.loading import MTDNN, in_precision, load
from mtdnn_tf.serving.config.server_config import BATCHING_FILE, batching_parameters
from mtdnn_tf.serving.export.model_card import model_card
from mtdnn_tf.serving.export.signatures import ServedModel
from mtdnn_tf.serving.export.warmup import write_warmup
from mtdnn_tf.serving.versions import versions

ExportPrecision = Literal["float32", "bfloat16", "int8"]
PATTERN_CHARACTERS = "*?[\\"  # In a path that TensorFlow reads variables from.


def export(
    workdir: str | Path,
    export_dir: Path,
    version: int | None = None,
    checkpoint: str = "best",
    *,
    precision: ExportPrecision = "float32",
    freeze: bool = False,
) -> Path:
    """Writes the model of a run as a version that a model server can load.

    A server that polls `export_dir` never sees a part of it.

    Args:
        workdir: The run directory.
        export_dir: The model's folder, which holds its versions.
        version: Number of the version; by default one more than the highest that is there.
        checkpoint: `best` or `last`.
        precision: What the encoder computes in and keeps its weights in; with `int8` it computes in
            bfloat16 and keeps its matrices but for the embeddings in 8 bits.
        freeze: Whether the encoder's matrices are constants; see `ServedModel`.

    Returns:
        The folder of the version.

    Raises:
        UserError: `int8` is to be frozen, the run cannot be loaded, the version is there already, or
            the folder has a name that a model server cannot read or cannot be written.
    """
    _check_path(export_dir)
    if version is not None and (export_dir / str(version)).exists():
        raise _there_already(export_dir / str(version))
    if precision == "int8" and freeze:
        raise UserError("--precision=int8 and --freeze: expected one of them")
    policy = "bfloat16" if precision == "int8" else precision
    _check_names(RunDirectory(workdir))
    loaded = in_precision(load(workdir, checkpoint), policy)
    partial = export_dir / f".partial-{uuid.uuid4().hex}"
    try:
        export_dir.mkdir(parents=True, exist_ok=True)
        name = export_dir.resolve().name
        _save(loaded, partial, name, freeze=freeze, int8=precision == "int8")
        for path in licences(RunDirectory(workdir).encoder):
            shutil.copyfile(path, partial / f"ENCODER_{path.name}")
        batching = text_format.MessageToString(batching_parameters())
        (partial / BATCHING_FILE).write_text(batching, encoding="utf-8")
        while True:
            number = max(versions(export_dir), default=0) + 1 if version is None else version
            card = model_card(RunDirectory(workdir), loaded, name, number, checkpoint, precision)
            (partial / "MODEL_CARD.md").write_text(card, encoding="utf-8")
            if _renamed(partial, export_dir / str(number)):
                return export_dir / str(number)
            if version is not None:
                raise _there_already(export_dir / str(version))
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message.splitlines()[0]
        raise UserError(f"cannot write in {export_dir}: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_names(directory: RunDirectory) -> None:
    """Raises a UserError for names that no signature can have, as runs of earlier versions may."""
    tree = directory.read_experiment().model_dump(mode="json", include={"tasks"})
    build_experiment(tree, str(directory.path))


def _check_path(export_dir: Path) -> None:
    """Raises a UserError for a folder that a SavedModel cannot be loaded from."""
    for character in PATTERN_CHARACTERS:
        if character in str(export_dir.absolute()):
            raise UserError(
                f"cannot export to {export_dir.absolute()}: a model server takes '{character}' in a "
                "path for a pattern; choose another --export_dir"
            )


def _renamed(partial: Path, folder: Path) -> bool:
    """Gives a version its name, unless another export has taken it in the meantime."""
    try:
        partial.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True


def _there_already(folder: Path) -> UserError:
    return UserError(f"{folder} is there already; choose another --version")


def _save(loaded: MTDNN, folder: Path, name: str, *, freeze: bool, int8: bool) -> None:
    module = tf.Module(name="mtdnn")
    specs = {name: task.model_dump(mode="json") for name, task in loaded.tasks.items()}
    labels = {task: loaded.head(task).labels for task in loaded.tasks}
    served = ServedModel(loaded, freeze=freeze, int8=int8)
    signatures = served.signatures()
    # Not the Keras model itself: what hangs on one is not found by the loader of the model server.
    read = [variable for function in signatures.values() for variable in function.graph.variables]
    module.weights = list({id(variable): variable for variable in read}.values())
    with tempfile.TemporaryDirectory() as assets:
        module.assets = []
        for file_name, tree in (("tasks.json", specs), ("labels.json", labels)):
            path = Path(assets) / file_name
            path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
            module.assets.append(tf.saved_model.Asset(str(path)))
        tf.saved_model.save(module, str(folder), signatures=signatures)
    write_warmup(folder, name, loaded, signatures)

"""Any encoder that can be read, written in the layout of the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path

from mtdnn_tf import pretrained
from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertEncoder, encoder_of
from mtdnn_tf.pretrained.weights import POOLER
from mtdnn_tf.pretrained.writer import check_absent, write_folder
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.loading import load


@dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Attributes:
        source: Where the encoder was read from.
        written: Names of the tensors written, as transformers calls them.
        unread: Tensors of the source that are no part of the encoder, such as heads.
    """

    source: Path
    written: tuple[str, ...]
    unread: tuple[str, ...]


def convert(
    source: str, output: Path, lower_case: bool | None = None, checkpoint: str = "best"
) -> Conversion:
    """Writes a pre-trained encoder, or that of a run, as a Hugging Face folder.

    A pooler that the source lacks is left out, not made up.

    Args:
        source: A run directory, or what `mtdnn_tf.pretrained.resolve` takes.
        output: The folder to write; it must not exist.
        lower_case: Whether text is lower-cased before the vocabulary is used; None reads it from
            the source.
        checkpoint: Of a run: `best` or `last`.

    Raises:
        UserError: The source can't be read, or the output exists or can't be written; nothing is
            left of it then.
    """
    check_absent(output)
    directory = RunDirectory(Path(source).expanduser())
    if directory.exists and directory.checkpoints.is_dir():
        return _convert_run(directory, output, lower_case, checkpoint)
    return _convert_folder(pretrained.resolve(source), output, lower_case)


def _convert_run(
    directory: RunDirectory, output: Path, lower_case: bool | None, checkpoint: str
) -> Conversion:
    run = load(directory.path, checkpoint)
    trained = run.tokenizer.settings.get("lower_case")
    if lower_case not in (None, trained):
        raise UserError(
            f"{directory.path} was trained with lower_case {trained}; leave --lower_case out"
        )
    written = write_folder(output, encoder_of(run.model), run.tokenizer)
    return Conversion(directory.path, written, ())


def _convert_folder(folder: Path, output: Path, lower_case: bool | None) -> Conversion:
    found = pretrained.read_tokenizer(folder, lower_case)
    encoder = BertEncoder(pretrained.load_config(folder))
    report = pretrained.load_encoder_weights(encoder, folder)
    leave_out = POOLER if report.missing else ()
    written = write_folder(output, encoder, found.make(), leave_out)
    return Conversion(folder, written, report.unused + report.unexpected)

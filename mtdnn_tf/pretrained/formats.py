"""The layouts in which a pre-trained encoder's folder may come, recognised by its files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig, BertEncoder, Pooling
from mtdnn_tf.pretrained import google_tf1, huggingface, model_garden, tf_checkpoint
from mtdnn_tf.pretrained.pooling import POOLING_FILE, pooling_of
from mtdnn_tf.pretrained.tensors import WEIGHTS, weight_files
from mtdnn_tf.pretrained.tokenizer_files import TOKENIZER_FILES
from mtdnn_tf.pretrained.weights import LoadReport

_LICENCE = re.compile("(licen[cs]e|notice|copying)(?![a-z])", re.IGNORECASE)


class Format(NamedTuple):
    """How folders of one layout are read.

    Attributes:
        layout: The layout and its files, in words.
        missing_files: Names of the files that a folder lacks.
        config_file: The file with the encoder's sizes.
        load_config: Reads it.
        weight_files: The files with the weights.
        has_pooler: Whether BERT's pooler is among them.
        load_encoder_weights: Copies the weights into an encoder of the folder's sizes.
    """

    layout: str
    missing_files: Callable[[Path], list[str]]
    config_file: Callable[[Path], Path]
    load_config: Callable[[Path], BertConfig]
    weight_files: Callable[[Path], list[Path]]
    has_pooler: Callable[[Path], bool]
    load_encoder_weights: Callable[[BertEncoder, Path], LoadReport]


HUGGING_FACE = Format(
    "Hugging Face (config.json, model.safetensors or pytorch_model.bin, vocab.txt or tokenizer.json)",
    huggingface.missing_files,
    lambda folder: folder / huggingface.CONFIG_FILE,
    huggingface.load_config,
    weight_files,
    huggingface.has_pooler,
    huggingface.load_encoder_weights,
)
GOOGLE_TF1 = Format(
    "Google's TF1 releases (bert_config.json, bert_model.ckpt.index and .data-*, vocab.txt)",
    lambda folder: tf_checkpoint.missing_files(folder, google_tf1.CONFIG_FILE),
    lambda folder: folder / google_tf1.CONFIG_FILE,
    google_tf1.load_config,
    tf_checkpoint.weight_files,
    google_tf1.has_pooler,
    google_tf1.load_encoder_weights,
)
MODEL_GARDEN = Format(
    "Model Garden (bert_config.json or params.yaml, *.index and *.data-*, vocab.txt)",
    lambda folder: tf_checkpoint.missing_files(folder, model_garden.config_file(folder).name),
    model_garden.config_file,
    model_garden.load_config,
    tf_checkpoint.weight_files,
    model_garden.has_pooler,
    model_garden.load_encoder_weights,
)


def licences(folder: Path) -> tuple[Path, ...]:
    """The files of an encoder's folder that say what may be done with it, by name."""
    return tuple(
        sorted(path for path in folder.glob("*") if path.is_file() and _LICENCE.match(path.name))
    )


def find_format(folder: Path) -> Format | None:
    """The format of a folder, complete or not; None where nothing in it is of a known one.

    Google's and Model Garden's folders may have the same file names: what tells them apart is in
    the checkpoint.

    Raises:
        UserError: The folder's checkpoint can't be read.
    """
    if (folder / huggingface.CONFIG_FILE).is_file():
        return HUGGING_FACE
    if checkpoint := tf_checkpoint.find_checkpoint(folder):
        is_object_based = tf_checkpoint.CheckpointReader(checkpoint).is_object_based
        return MODEL_GARDEN if is_object_based else GOOGLE_TF1
    if any((folder / name).is_file() for name in WEIGHTS):
        return HUGGING_FACE
    if (folder / google_tf1.CONFIG_FILE).is_file():
        return GOOGLE_TF1
    return MODEL_GARDEN if (folder / "params.yaml").is_file() else None


def known_layouts() -> str:
    """The layouts that are known, in words."""
    return "; ".join(known.layout for known in (HUGGING_FACE, GOOGLE_TF1, MODEL_GARDEN))


def format_of(folder: str | Path) -> Format:
    """The format of a folder.

    Raises:
        UserError: It is in no known layout; names those that are.
    """
    folder = Path(folder)
    found = find_format(folder)
    if found is None:
        raise UserError(
            f"{folder}: no known layout of a pre-trained encoder; expected {known_layouts()}"
        )
    return found


def load_config(folder: str | Path) -> BertConfig:
    """Reads the encoder's sizes and rates.

    Raises:
        UserError: The file is missing or broken, or the model is no BERT.
    """
    return format_of(folder).load_config(Path(folder))


def find_pooling(folder: str | Path) -> tuple[Pooling, str]:
    """The pooling that a folder's encoder was made for, and what says so.

    Raises:
        UserError: It is one that is not supported, or a file can't be read.
    """
    return pooling_of(Path(folder), format_of(folder).has_pooler)


def files_read(folder: str | Path) -> list[Path]:
    """The files of a folder that an encoder and its tokenizer are read from.

    Raises:
        UserError: The weights are not there.
    """
    folder, found = Path(folder), format_of(folder)
    names = (*TOKENIZER_FILES, POOLING_FILE)
    others = [found.config_file(folder), *(folder / name for name in names)]
    return [*found.weight_files(folder), *(path for path in others if path.is_file())]


def load_encoder_weights(encoder: BertEncoder, folder: str | Path) -> LoadReport:
    """Copies a folder's weights into an encoder, building it if need be.

    Args:
        encoder: Of the folder's own sizes (`load_config`).
        folder: In any of the layouts.

    Raises:
        UserError: A tensor is missing (the pooler may be) or of another shape, or a file can't be
            read; nothing is copied.
    """
    return format_of(folder).load_encoder_weights(encoder, Path(folder))

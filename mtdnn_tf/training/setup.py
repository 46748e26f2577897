"""What a run is built from: seeds, the pretrained encoder, variables of the training state."""

from pathlib import Path

import keras
import tensorflow as tf

from mtdnn_tf import pretrained
from mtdnn_tf.config import Experiment, TrainingSettings
from mtdnn_tf.data.tokenizer import BertTokenizer
from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig


def seed_everything(settings: TrainingSettings) -> None:
    """Seeds new variables and dropout, and asks for deterministic kernels."""
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()


def uses_xla(settings: TrainingSettings) -> bool:
    """Whether the step is compiled; `auto` is on where there is a GPU or a TPU.

    On CPU the oneDNN graph is faster than XLA.
    """
    if settings.xla == "auto":
        return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))
    return settings.xla == "on"


def counter(dtype: tf.DType, value: float) -> tf.Variable:
    """A variable of the training state, equal on all replicas."""
    return tf.Variable(
        tf.constant(value, dtype),
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def read_pretrained(experiment: Experiment, folder: Path) -> tuple[BertConfig, BertTokenizer]:
    """The encoder's configuration, with the experiment's dropout, and the tokenizer of a folder.

    Raises:
        UserError: The folder is broken, or the encoder is too short for `data.max_length`.
    """
    config = pretrained.load_config(folder)
    wanted = experiment.encoder
    rates = {
        "hidden_dropout": wanted.hidden_dropout,
        "attention_dropout": wanted.attention_dropout,
    }
    given = {name: rate for name, rate in rates.items() if rate is not None}
    config = config.model_copy(update=given)
    if experiment.data.max_length > config.max_position_embeddings:
        raise UserError(
            f"data.max_length {experiment.data.max_length} is over the "
            f"{config.max_position_embeddings} positions of the encoder {folder}"
        )
    pretrained.check_vocab(folder)
    lower_case = wanted.lower_case
    if lower_case is None:
        lower_case = pretrained.lower_case(folder)
    tokenizer = BertTokenizer.from_file(
        folder / "vocab.txt", lower_case=lower_case, max_length=experiment.data.max_length
    )
    return config, tokenizer

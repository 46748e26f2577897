"""BERT encoders in the layout of Google's releases for TensorFlow 1 (arXiv 1810.04805).

A folder holds `bert_config.json`, `vocab.txt` and the checkpoint `bert_model.ckpt.*` that
`tf.train.Saver` wrote, with variables such as `bert/encoder/layer_0/attention/self/query/kernel`
(https://github.com/google-research/bert, `modeling.py`). transformers took its names from these.
"""

import re
from pathlib import Path

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig, BertEncoder
from mtdnn_tf.modeling.config import HF_KEYS
from mtdnn_tf.pretrained.config_file import bert_config, read_json
from mtdnn_tf.pretrained.huggingface import EMBEDDINGS, LAYERS
from mtdnn_tf.pretrained.tf_checkpoint import read_checkpoint
from mtdnn_tf.pretrained.weights import POOLER, Layout, LoadReport, load_weights

CONFIG_FILE = "bert_config.json"

# Heads of pre-training, and the state of the optimizer.
KNOWN = re.compile(r"cls/.*|.*/adam_[mv]|global_step|beta[12]_power")


def load_config(folder: Path) -> BertConfig:
    """Reads `bert_config.json`; its keys are those of a Hugging Face `config.json`.

    `gelu` is read as transformers reads it for the same weights: the exact one.

    Raises:
        UserError: Not JSON, or a key is missing or wrong.
    """
    path = folder / CONFIG_FILE
    return bert_config(path, read_json(path), HF_KEYS)


def load_encoder_weights(encoder: BertEncoder, folder: Path) -> LoadReport:
    """Copies a folder's weights into an encoder; see `load_weights`.

    Raises:
        UserError: The checkpoint can't be read, or is of another encoder; nothing is copied.
    """
    tensors = read_checkpoint(folder)
    if not any(name.startswith("bert/") for name in tensors):
        raise UserError(f"{tensors.path}: no variable begins with bert/; not a checkpoint of BERT")
    layout = Layout(
        config_file=CONFIG_FILE,
        tensor_name=tensor_name,
        stored_shape=lambda _, shape: shape,
        is_known=lambda name: bool(KNOWN.fullmatch(name)),
    )
    return load_weights(encoder, folder, tensors, layout)


def has_pooler(folder: Path) -> bool:
    """Whether the checkpoint has a pooler.

    Raises:
        UserError: The checkpoint can't be read.
    """
    tensors = read_checkpoint(folder)
    return all(tensor_name(path) in tensors for path in POOLER)


def tensor_name(path: str) -> str:
    """The name of the variable at `path` of an encoder.

    >>> tensor_name("layer_3/attention/query/kernel")
    'bert/encoder/layer_3/attention/self/query/kernel'
    """
    if path in EMBEDDINGS:
        return "bert/" + EMBEDDINGS[path].replace(".", "/")
    layer, _, leaf = path.rpartition("/")
    block = re.fullmatch(r"(layer_\d+)/(.+)", layer)
    prefix, layer = (f"encoder/{block[1]}/", block[2]) if block else ("", layer)
    return f"bert/{prefix}{LAYERS[layer].replace('.', '/')}/{leaf}"

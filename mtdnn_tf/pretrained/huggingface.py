"""BERT encoders in the layout of the Hugging Face hub."""

import re
from pathlib import Path

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig, BertEncoder
from mtdnn_tf.modeling.config import HF_KEYS
from mtdnn_tf.pretrained.config_file import CONFIG_FILE, bert_config, read_json
from mtdnn_tf.pretrained.tensors import WEIGHTS, read_tensors, tensor_names
from mtdnn_tf.pretrained.tokenizer_files import missing_vocab
from mtdnn_tf.pretrained.weights import POOLER, Layout, LoadReport, Shape, load_weights

_OF_AN_ENCODER = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,  # Whose words see only those before them.
}

# Our layer -> the module of transformers' BertModel.
EMBEDDINGS = {
    "embeddings/word": "embeddings.word_embeddings",
    "embeddings/position": "embeddings.position_embeddings",
    "embeddings/type": "embeddings.token_type_embeddings",
}
LAYERS = {
    "embeddings/norm": "embeddings.LayerNorm",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
    "pooler": "pooler.dense",
}
LEAVES = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def load_config(folder: str | Path) -> BertConfig:
    """Reads `config.json`.

    Raises:
        UserError: Not JSON, a key is missing or wrong, or the model is no BERT.
    """
    path = Path(folder) / CONFIG_FILE
    values = read_json(path)
    for key, expected in _OF_AN_ENCODER.items():
        if (value := values.get(key, expected)) != expected:
            raise UserError(f"{path}: {key} is {value!r}; expected {expected!r}")
    return bert_config(path, values, HF_KEYS)


def missing_files(folder: Path) -> list[str]:
    """Names of the files that a folder lacks."""
    missing = [] if (folder / CONFIG_FILE).is_file() else [CONFIG_FILE]
    missing += missing_vocab(folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        missing.append("model.safetensors (or pytorch_model.bin)")
    return missing


def has_pooler(folder: Path) -> bool:
    """Whether the weights have a pooler.

    Raises:
        UserError: A file can't be read.
    """
    names = {_modern_name(name) for name in tensor_names(folder)}
    return all(hf_name(path) in names for path in POOLER)


def load_encoder_weights(encoder: BertEncoder, folder: str | Path) -> LoadReport:
    """Copies a folder's weights into an encoder, building it if need be.

    Names may carry the prefix `bert.`, and LayerNorm's may be the old `gamma` and `beta`.

    Args:
        encoder: Of the folder's own sizes (`load_config`).
        folder: See `read_tensors`.

    Raises:
        UserError: A tensor is missing (the pooler may be) or of another shape; nothing is copied.
    """
    folder = Path(folder)
    tensors = {_modern_name(name): value for name, value in read_tensors(folder).items()}
    return load_weights(encoder, folder, tensors, LAYOUT)


def hf_name(path: str) -> str:
    """The name in transformers' BertModel of the variable at `path` of an encoder.

    >>> hf_name("layer_3/attention/query/kernel")
    'encoder.layer.3.attention.self.query.weight'
    """
    if path in EMBEDDINGS:
        return EMBEDDINGS[path] + ".weight"
    layer, _, leaf = path.rpartition("/")
    block = re.fullmatch(r"layer_(\d+)/(.+)", layer)
    prefix, layer = (f"encoder.layer.{block[1]}.", block[2]) if block else ("", layer)
    return f"{prefix}{LAYERS[layer]}.{LEAVES[leaf]}"


def _modern_name(name: str) -> str:
    """A tensor's name without `bert.` and with LayerNorm's present names."""
    name = name.removeprefix("bert.")
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def _stored_shape(path: str, shape: Shape) -> Shape:
    """The shape of a tensor: a dense weight is stored transposed."""
    return shape[::-1] if path.endswith("/kernel") else shape


LAYOUT = Layout(
    config_file=CONFIG_FILE,
    tensor_name=hf_name,
    stored_shape=_stored_shape,
    is_known=lambda name: name.startswith("cls.") or name == "embeddings.position_ids",
    transposed=True,
)

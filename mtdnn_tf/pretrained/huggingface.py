"""BERT encoders in the layout of the Hugging Face hub."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pydantic import ValidationError

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig, BertEncoder
from mtdnn_tf.modeling.config import HF_KEYS
from mtdnn_tf.pretrained.tensors import read_tensors

REQUIRED_KEYS = [
    HF_KEYS[name]
    for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")
]

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
POOLER = ("pooler.dense.weight", "pooler.dense.bias")


@dataclass(frozen=True)
class LoadReport:
    """What `load_encoder_weights` did, in transformers' names.

    Attributes:
        loaded: Tensors that were copied into the encoder.
        missing: Tensors of the pooler that the file lacks; their initial values were kept.
        unused: Known tensors that this encoder has no place for (`cls.*`, `position_ids`, an
            unwanted pooler).
        unexpected: Tensors that are no part of BERT.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_config(folder: str | Path) -> BertConfig:
    """Reads `config.json`.

    Raises:
        UserError: Not JSON, a key is missing or wrong, or the model is no BERT.
    """
    path = Path(folder) / "config.json"
    values = _read_json(path)
    if (kind := values.get("model_type", "bert")) != "bert":
        raise UserError(f"{path}: model_type is {kind!r}; expected 'bert'")
    if missing := [key for key in REQUIRED_KEYS if key not in values]:
        raise UserError(f"{path}: lacks {', '.join(missing)}")
    if (kind := values.get("position_embedding_type", "absolute")) != "absolute":
        raise UserError(f"{path}: position_embedding_type is {kind!r}; expected 'absolute'")
    try:
        return BertConfig.from_hf_dict(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = HF_KEYS[str(first["loc"][0])] + ": " if first["loc"] else ""
        raise UserError(f"{path}: {field}{first['msg']}") from None


def lower_case(folder: str | Path) -> bool:
    """Whether text is lower-cased before the vocabulary is used.

    `do_lower_case` of `tokenizer_config.json` decides; without it, everything is lower-cased but
    models whose name says `cased`.
    """
    folder = Path(folder)
    path = folder / "tokenizer_config.json"
    if path.is_file() and isinstance(value := _read_json(path).get("do_lower_case"), bool):
        return value
    config = folder / "config.json"
    names = [part.lower() for part in folder.resolve().parts[-4:]]
    if config.is_file():
        names.append(str(_read_json(config).get("_name_or_path", "")).lower())
    return not any(re.search(r"(?<!un)cased", name) for name in names)


def check_vocab(folder: str | Path) -> int:
    """Returns the number of word pieces in `vocab.txt`.

    Raises:
        UserError: The file is missing, or its size is not `vocab_size` of `config.json`.
    """
    path = Path(folder) / "vocab.txt"
    try:
        size = path.read_text("utf-8").removesuffix("\n").count("\n") + 1
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read ({error})") from None
    expected = load_config(folder).vocab_size
    if size != expected:
        raise UserError(f"{path}: {size} word pieces; expected vocab_size {expected} (config.json)")
    return size


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
    if not encoder.built:
        encoder.build()
    variables = {hf_name(v.path, encoder.path): v for v in encoder.weights}
    missing = [name for name in variables if name not in tensors]
    if lost := [name for name in missing if name not in POOLER]:
        more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
        raise UserError(f"{folder}: the weights lack {', '.join(lost[:8])}{more}")
    arrays = {
        name: _fitted(folder, name, tensors[name], variable)
        for name, variable in variables.items()
        if name in tensors
    }
    for name, array in arrays.items():
        variables[name].assign(array)
    others = [name for name in tensors if name not in variables]
    unused = [name for name in others if _is_known(name)]
    return LoadReport(
        loaded=tuple(arrays),
        missing=tuple(missing),
        unused=tuple(unused),
        unexpected=tuple(name for name in others if name not in unused),
    )


def hf_name(path: str, encoder_path: str) -> str:
    """The name in transformers' BertModel of the variable `path` of an encoder.

    >>> hf_name("encoder/layer_3/attention/query/kernel", "encoder")
    'encoder.layer.3.attention.self.query.weight'
    """
    inner = path.removeprefix(encoder_path + "/")
    if inner in EMBEDDINGS:
        return EMBEDDINGS[inner] + ".weight"
    layer, _, leaf = inner.rpartition("/")
    block = re.fullmatch(r"layer_(\d+)/(.+)", layer)
    prefix, layer = (f"encoder.layer.{block[1]}.", block[2]) if block else ("", layer)
    return f"{prefix}{LAYERS[layer]}.{LEAVES[leaf]}"


def _modern_name(name: str) -> str:
    """A tensor's name without `bert.` and with LayerNorm's present names."""
    name = name.removeprefix("bert.")
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def _is_known(name: str) -> bool:
    """Whether a tensor without a place is a known one: nothing to worry about."""
    return name.startswith("cls.") or name in (*POOLER, "embeddings.position_ids")


def _fitted(folder: Path, name: str, tensor: np.ndarray, variable: keras.Variable) -> np.ndarray:
    """The tensor in the variable's layout; a dense weight is stored transposed."""
    transposed = variable.path.endswith("/kernel")
    expected = tuple(variable.shape)[::-1] if transposed else tuple(variable.shape)
    if tensor.shape != expected:
        raise UserError(
            f"{folder}: tensor {name!r} has shape {list(tensor.shape)}; "
            f"expected {list(expected)} (config.json)"
        )
    return tensor.T if transposed else tensor


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object, found a {type(values).__name__}")
    return values

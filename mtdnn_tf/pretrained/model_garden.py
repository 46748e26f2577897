"""BERT encoders in the layout of TensorFlow's Model Garden (`official.nlp.modeling.networks`).

A folder holds a `tf.train.Checkpoint` with a `BertEncoderV2` or the older `BertEncoder` somewhere in
it, `vocab.txt`, and `bert_config.json` or a YAML file of Model Garden's own (`params.yaml`).

A checkpoint names a variable by the shortest way to it, which differs with what was saved beside
the encoder: the word embeddings of a `BertPretrainerV2` are `masked_lm/embedding_table`. So the
graph of objects in the checkpoint is followed instead of names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig, BertEncoder
from mtdnn_tf.modeling.config import HF_KEYS
from mtdnn_tf.pretrained.config_file import bert_config, read_json
from mtdnn_tf.pretrained.object_graph import ObjectGraph
from mtdnn_tf.pretrained.tf_checkpoint import OBJECT_GRAPH, CheckpointReader, read_checkpoint
from mtdnn_tf.pretrained.weights import (
    POOLER,
    Layout,
    LoadReport,
    Shape,
    load_weights,
    variable_paths,
)
from mtdnn_tf.validation.yaml_file import read_yaml

# Our field -> the key of Model Garden's `BertEncoderConfig`.
YAML_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "hidden_dropout": "dropout_rate",
    "attention_dropout": "attention_dropout_rate",
    "hidden_act": "hidden_activation",
    "initializer_range": "initializer_range",
}

# Our variable or layer -> the attribute of Model Garden's encoder or block.
EMBEDDINGS = {
    "embeddings/word": "_embedding_layer/embeddings",
    "embeddings/position": "_position_embedding_layer/embeddings",
    "embeddings/type": "_type_embedding_layer/embeddings",
}
LAYERS = {
    "embeddings/norm": "_embedding_norm_layer",
    "attention/query": "_attention_layer/_query_dense",
    "attention/key": "_attention_layer/_key_dense",
    "attention/value": "_attention_layer/_value_dense",
    "attention/output": "_attention_layer/_output_dense",
    "attention_norm": "_attention_layer_norm",
    "intermediate": "_intermediate_dense",
    "output": "_output_dense",
    "output_norm": "_output_layer_norm",
    "pooler": "_pooler_layer",
}

# The older encoder, a functional model, numbers its layers: these, the blocks, the pooler.
NUMBERED = (
    "_embedding_layer",
    "_position_embedding_layer",
    "_type_embedding_layer",
    "_embedding_norm_layer",
)

# Heads of pre-training, the state of the optimizer, counters.
KNOWN = re.compile(
    r"(^|/)(masked_lm|next_sentence|classification_heads|optimizer|save_counter|global_step)\b"
    rf"|^{OBJECT_GRAPH}$"
)
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def config_file(folder: Path) -> Path:
    """The file that a folder's sizes are read from.

    Raises:
        UserError: There is none, or several YAML files to choose from.
    """
    for name in ("bert_config.json", "params.yaml"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.yaml"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none of them"
        raise UserError(
            f"{folder}: expected bert_config.json, params.yaml or one other .yaml file with the "
            f"encoder's sizes; found {names}"
        )
    return found[0]


def load_config(folder: Path) -> BertConfig:
    """Reads `bert_config.json` or Model Garden's YAML of an encoder, a model or a whole experiment.

    Model Garden's `gelu` is the tanh form, `gelu_new` here.

    Raises:
        UserError: No such file, a key is missing or wrong, or the encoder is no plain BERT.
    """
    path = config_file(folder)
    if path.suffix == ".json":
        values, keys = read_json(path), HF_KEYS
    else:
        values, keys = _encoder_section(path, read_yaml(path)), YAML_KEYS
    width = values.get("embedding_size")
    if width is not None and width != values.get("hidden_size"):
        raise UserError(f"{path}: embedding_size is {width}; expected hidden_size or null")
    if values.get("norm_first"):
        raise UserError(f"{path}: norm_first is true; expected LayerNorm after each sub-block")
    activation = keys["hidden_act"]
    if values.get(activation, "gelu") == "gelu":
        values = values | {activation: "gelu_new"}
    return bert_config(path, values, keys)


def _encoder_section(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The part of a YAML file that describes the encoder."""
    for key in ("task", "model", "encoder"):
        if isinstance(values.get(key), dict):
            values = values[key]
    kind = values.get("type", "bert")
    if kind not in ("bert", "bert_v2"):
        raise UserError(f"{path}: the encoder's type is {kind!r}; expected 'bert' or 'bert_v2'")
    section = values.get(kind, values)
    if not isinstance(section, dict):
        raise UserError(f"{path}: {kind}: expected a mapping, found {section!r}")
    return section


def load_encoder_weights(encoder: BertEncoder, folder: Path) -> LoadReport:
    """Copies a folder's weights into an encoder; see `load_weights`.

    A tensor's name is the way to it through the checkpoint's objects, such as
    `encoder/_transformer_layers/0/_attention_layer/_query_dense/kernel`.

    Raises:
        UserError: The checkpoint can't be read, or is of another encoder; nothing is copied.
    """
    tensors = EncoderTensors(read_checkpoint(folder), encoder)
    heads = (encoder.config.num_heads, encoder.config.head_size)

    def stored_shape(path: str, shape: Shape) -> Shape:
        """Attention is stored with its heads apart."""
        if re.search(r"attention/(query|key|value)/", path):
            return (*shape[:-1], *heads)
        return (*heads, shape[-1]) if path.endswith("attention/output/kernel") else shape

    layout = Layout(
        config_file=config_file(folder).name,
        tensor_name=tensors.names.__getitem__,
        stored_shape=stored_shape,
        is_known=lambda name: bool(KNOWN.search(name)),
    )
    return load_weights(encoder, folder, tensors, layout)


class EncoderTensors(Mapping[str, np.ndarray]):
    """The tensors of a checkpoint; those of its encoder are named by the way to them.

    Args:
        reader: An object-based checkpoint.
        encoder: The encoder of ours that they are for; it is built if need be.

    Attributes:
        names: From the paths of the encoder's variables to the names of their tensors, which need
            not exist.

    Raises:
        UserError: The checkpoint holds no BERT encoder, or can't be read.
    """

    def __init__(self, reader: CheckpointReader, encoder: BertEncoder) -> None:
        self._reader = reader
        paths = (*variable_paths(encoder), *POOLER)
        keys = _find_variables(reader, paths, encoder.config.num_layers)
        self.names = {path: name for path, (name, _) in keys.items()}
        self._keys = {name: key for name, key in keys.values() if key is not None}
        others = set(reader) - set(self._keys.values())
        self._keys |= {key.removesuffix(SUFFIX): key for key in sorted(others)}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._reader[self._keys[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._keys  # Mapping's own would read the tensor.

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def has_pooler(folder: Path) -> bool:
    """Whether the encoder in the checkpoint has a pooler.

    Raises:
        UserError: The checkpoint can't be read, or holds no BERT encoder.
    """
    num_layers = load_config(folder).num_layers
    found = _find_variables(read_checkpoint(folder), POOLER, num_layers)
    return all(key is not None for _, key in found.values())


def _find_variables(
    reader: CheckpointReader, paths: Iterable[str], num_layers: int
) -> dict[str, tuple[str, str | None]]:
    """Finds the variables of the encoder in a checkpoint.

    Args:
        reader: An object-based checkpoint.
        paths: Their paths in an encoder of ours.
        num_layers: The encoder's number of blocks.

    Returns:
        From each path to the way to it from the root, and its key, None where it is not there.

    Raises:
        UserError: The checkpoint holds no BERT encoder.
    """
    graph = ObjectGraph(reader)
    found = graph.find("_embedding_layer/embeddings", "layer_with_weights-0/embeddings")
    if found is None:
        raise UserError(f"{reader.path}: holds no BertEncoder or BertEncoderV2 of Model Garden")
    node, prefix = found
    is_numbered = graph.follow(node, "layer_with_weights-0") is not None
    ways = {path: _way(path, num_layers if is_numbered else None) for path in paths}
    return {path: (prefix + way, graph.key(graph.follow(node, way))) for path, way in ways.items()}


def _way(path: str, num_layers: int | None) -> str:
    """The way from Model Garden's encoder to the variable at `path` of ours.

    >>> _way("layer_3/attention/query/kernel", None)
    '_transformer_layers/3/_attention_layer/_query_dense/kernel'
    >>> _way("layer_3/attention/query/kernel", 12)
    'layer_with_weights-7/_attention_layer/_query_dense/kernel'

    Args:
        path: The variable's path.
        num_layers: The number of blocks where layers are numbered; None where they have names.
    """
    if path in EMBEDDINGS:
        way = EMBEDDINGS[path]
    else:
        layer, _, leaf = path.rpartition("/")
        if block := re.fullmatch(r"layer_(\d+)/(.+)", layer):
            at = "_transformer_layers/" if num_layers is None else "layer_with_weights-"
            number = int(block[1]) + (0 if num_layers is None else len(NUMBERED))
            return f"{at}{number}/{LAYERS[block[2]]}/{leaf}"
        way = f"{LAYERS[layer]}/{leaf}"
    if num_layers is None:
        return way
    layer, _, leaf = way.partition("/")
    number = NUMBERED.index(layer) if layer in NUMBERED else len(NUMBERED) + num_layers
    return f"layer_with_weights-{number}/{leaf}"

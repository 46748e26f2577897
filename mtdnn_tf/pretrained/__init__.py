"""Pre-trained encoders: where they are found and how their weights are read."""

from mtdnn_tf.pretrained.formats import (
    files_read,
    find_pooling,
    licences,
    load_config,
    load_encoder_weights,
)
from mtdnn_tf.pretrained.resolver import resolve
from mtdnn_tf.pretrained.source import describe_source
from mtdnn_tf.pretrained.tokenizer import FolderTokenizer, read_tokenizer
from mtdnn_tf.pretrained.weights import LoadReport

__all__ = [
    "FolderTokenizer",
    "LoadReport",
    "describe_source",
    "files_read",
    "find_pooling",
    "licences",
    "load_config",
    "load_encoder_weights",
    "read_tokenizer",
    "resolve",
]

"""Pre-trained encoders: where they are found and how their weights are read."""

from mtdnn_tf.pretrained.formats import (
    check_vocab,
    licences,
    load_config,
    load_encoder_weights,
    lower_case,
)
from mtdnn_tf.pretrained.resolver import resolve
from mtdnn_tf.pretrained.weights import LoadReport

__all__ = [
    "LoadReport",
    "check_vocab",
    "licences",
    "load_config",
    "load_encoder_weights",
    "lower_case",
    "resolve",
]

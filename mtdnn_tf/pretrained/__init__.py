"""Pre-trained encoders: where they are found and how their weights are read."""

from mtdnn_tf.pretrained.huggingface import (
    LoadReport,
    check_vocab,
    load_config,
    load_encoder_weights,
    lower_case,
)
from mtdnn_tf.pretrained.resolver import resolve

__all__ = [
    "LoadReport",
    "check_vocab",
    "load_config",
    "load_encoder_weights",
    "lower_case",
    "resolve",
]

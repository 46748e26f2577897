"""The model: a BERT encoder shared by named heads. Keras only, no TensorFlow."""

from mtdnn_tf.modeling.bert import BertEncoder, Pooling, average_windows
from mtdnn_tf.modeling.config import BertConfig
from mtdnn_tf.modeling.heads import LinearHead, SANHead
from mtdnn_tf.modeling.inputs import padded_inputs, ragged_inputs
from mtdnn_tf.modeling.mtdnn import (
    apply_head,
    build_mtdnn,
    encoder_of,
    heads_of,
    input_shapes,
)

__all__ = [
    "BertConfig",
    "BertEncoder",
    "LinearHead",
    "Pooling",
    "SANHead",
    "apply_head",
    "average_windows",
    "build_mtdnn",
    "encoder_of",
    "heads_of",
    "input_shapes",
    "padded_inputs",
    "ragged_inputs",
]

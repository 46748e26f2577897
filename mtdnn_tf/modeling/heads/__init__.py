"""Output layers, one per task, on top of the shared encoder."""

from mtdnn_tf.modeling.heads.linear import LinearHead

__all__ = ["LinearHead"]

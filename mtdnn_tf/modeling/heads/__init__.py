"""Output layers, one per task, on top of the shared encoder."""

from mtdnn_tf.modeling.heads.linear import LinearHead
from mtdnn_tf.modeling.heads.memory import WordsHead
from mtdnn_tf.modeling.heads.san import SANHead

__all__ = ["LinearHead", "SANHead", "WordsHead"]

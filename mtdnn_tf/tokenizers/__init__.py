"""From texts to token ids, in the TensorFlow graph."""

from typing import Literal

Truncation = Literal["longest_first", "head_tail"]

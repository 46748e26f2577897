"""The shape of a BERT encoder."""

from typing import Annotated, Any, Literal, Self

import keras
from pydantic import BaseModel, ConfigDict, Field, model_validator

Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]

# Our field -> the key in a Hugging Face `config.json`.
HF_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "layer_norm_eps": "layer_norm_eps",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "hidden_act": "hidden_act",
    "initializer_range": "initializer_range",
}


class BertConfig(BaseModel):
    """Sizes and rates of a BERT encoder (arXiv 1810.04805); the defaults are BERT-base, uncased.

    Attributes:
        vocab_size: Number of word pieces.
        hidden_size: Width of a token's vector; a multiple of `num_heads`.
        num_layers: Number of transformer blocks.
        num_heads: Attention heads per block.
        intermediate_size: Width of a block's feed-forward layer.
        max_position_embeddings: The longest sequence in word pieces.
        type_vocab_size: Number of segment ids.
        layer_norm_eps: Added to the variance in LayerNorm.
        hidden_dropout: Dropout rate of embeddings and of each sub-block's output.
        attention_dropout: Dropout rate of attention probabilities.
        hidden_act: `gelu` is exact (erf); `gelu_new` and `gelu_pytorch_tanh` are its tanh form.
        initializer_range: Standard deviation of the initial weights (truncated normal).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: Count = 30522
    hidden_size: Count = 768
    num_layers: Count = 12
    num_heads: Count = 12
    intermediate_size: Count = 3072
    max_position_embeddings: Count = 512
    type_vocab_size: Count = 2
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    hidden_dropout: Rate = 0.1
    attention_dropout: Rate = 0.1
    hidden_act: Activation = "gelu"
    initializer_range: Annotated[float, Field(gt=0)] = 0.02

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        return self

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    def initializer(self) -> keras.Initializer:
        """A fresh initializer; Keras draws the same numbers each time one is used again."""
        return keras.initializers.TruncatedNormal(stddev=self.initializer_range)

    @classmethod
    def from_hf_dict(cls, values: dict[str, Any]) -> Self:
        """Reads the dict of a Hugging Face `config.json`; keys that do not shape BERT are ignored.

        Raises:
            pydantic.ValidationError: A value is of the wrong type or out of range.
        """
        return cls(**{ours: values[theirs] for ours, theirs in HF_KEYS.items() if theirs in values})

    def to_hf_dict(self) -> dict[str, Any]:
        """The dict of a Hugging Face `config.json` of the same encoder."""
        values = self.model_dump()
        return {"architectures": ["BertModel"], "model_type": "bert"} | {
            theirs: values[ours] for ours, theirs in HF_KEYS.items()
        }

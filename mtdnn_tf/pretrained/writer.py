"""An encoder written in the layout of the Hugging Face hub."""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from mtdnn_tf.errors import UserError
from mtdnn_tf.files import replaced
from mtdnn_tf.modeling import BertConfig, BertEncoder
from mtdnn_tf.pretrained.config_file import CONFIG_FILE
from mtdnn_tf.pretrained.huggingface import hf_name
from mtdnn_tf.pretrained.weights import variable_paths
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer


def write_folder(
    output: Path,
    encoder: BertEncoder,
    tokenizer: BertTokenizer,
    leave_out: Collection[str] = (),
) -> tuple[str, ...]:
    """Writes a folder that `transformers.BertModel` and `BertTokenizerFast` load.

    Everything is written under a temporary name and renamed, so that the folder is whole or absent.

    Args:
        output: The folder; it must not exist.
        encoder: The encoder, built.
        tokenizer: Its tokenizer; `max_length` is the encoder's, not this one's.
        leave_out: Paths of variables that are not written, such as those of an untrained pooler.

    Returns:
        The names of the tensors written.

    Raises:
        UserError: The folder exists, or can't be written; nothing is left of it then.
    """
    check_absent(output)
    tensors = {
        hf_name(path): _stored(path, variable.numpy())
        for path, variable in variable_paths(encoder).items()
        if path not in leave_out
    }
    try:
        with replaced(output) as partial:
            partial.mkdir()
            save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
            vocab = "".join(piece + "\n" for piece in tokenizer.vocab)
            (partial / "vocab.txt").write_text(vocab, encoding="utf-8", newline="\n")
            _write_json(partial / CONFIG_FILE, encoder.config.to_hf_dict())
            _write_json(partial / "tokenizer_config.json", _tokenizer(encoder.config, tokenizer))
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {output}: {getattr(error, 'strerror', error)}") from error
    return tuple(tensors)


def check_absent(output: Path) -> None:
    """Refuses an output folder that exists.

    Raises:
        UserError: It does.
    """
    if output.exists():
        raise UserError(f"the output {output} exists; choose another --output, or remove it")


def _stored(path: str, value: np.ndarray) -> np.ndarray:
    """A variable's value as transformers stores it: kernels are `[out, in]`, contiguous."""
    return np.ascontiguousarray(value.T) if path.endswith("/kernel") else value


def _tokenizer(config: BertConfig, tokenizer: BertTokenizer) -> dict[str, object]:
    """What `tokenizer_config.json` says."""
    return {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": tokenizer.lower_case,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.tokenize_chinese_chars,
        "model_max_length": config.max_position_embeddings,
    }


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

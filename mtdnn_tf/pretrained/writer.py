"""An encoder written in the layout of the Hugging Face hub."""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from mtdnn_tf.errors import UserError
from mtdnn_tf.files import replaced
from mtdnn_tf.modeling import BertEncoder
from mtdnn_tf.pretrained.config_file import CONFIG_FILE
from mtdnn_tf.pretrained.huggingface import hf_name
from mtdnn_tf.pretrained.weights import variable_paths
from mtdnn_tf.tokenizers.tokenizer import Tokenizer


def write_folder(
    output: Path,
    encoder: BertEncoder,
    tokenizer: Tokenizer,
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
            config = encoder.config.to_hf_dict()
            files = tokenizer.hugging_face_files(encoder.config.max_position_embeddings)
            files[CONFIG_FILE] = json.dumps(config, indent=2) + "\n"
            for name, content in files.items():
                (partial / name).write_text(content, encoding="utf-8", newline="\n")
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

"""An encoder's configuration, read from the dict of a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig
from mtdnn_tf.modeling.config import HF_KEYS

CONFIG_FILE = "config.json"  # Of Hugging Face.
REQUIRED = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        UserError: It can't be read, or is something else.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object, found a {type(values).__name__}")
    return values


def bert_config(path: Path, values: Mapping[str, Any], keys: Mapping[str, str]) -> BertConfig:
    """Makes a configuration of a file's values; keys that do not shape BERT are ignored.

    Args:
        path: The file, for messages.
        values: What it says.
        keys: From the fields of `BertConfig` to the file's keys.

    Raises:
        UserError: A key is missing, or its value is of the wrong type or out of range.
    """
    if missing := [keys[field] for field in REQUIRED if keys[field] not in values]:
        raise UserError(f"{path}: lacks {', '.join(missing)}")
    try:
        return BertConfig.from_hf_dict(
            {HF_KEYS[field]: values[key] for field, key in keys.items() if key in values}
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = keys[str(first["loc"][0])] + ": " if first["loc"] else ""
        raise UserError(f"{path}: {field}{first['msg']}") from None

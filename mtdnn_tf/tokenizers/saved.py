"""The tokenizer of a run directory."""

import json
import os
from pathlib import Path

from mtdnn_tf.errors import UserError
from mtdnn_tf.tokenizers.tokenizer import SETTINGS_FILE, Tokenizer
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

# By their names; a folder of the first versions names none.
TOKENIZERS: dict[str, type[Tokenizer]] = {cls.name: cls for cls in (BertTokenizer,)}


def load_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """Returns the tokenizer that `Tokenizer.save` wrote into a folder.

    Raises:
        UserError: A file can't be read, or is not that of a tokenizer that there is.
    """
    path = Path(folder) / SETTINGS_FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't read the settings ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); expected an object") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected a JSON object, found {settings!r}")
    name = settings.pop("tokenizer", BertTokenizer.name)
    if name not in TOKENIZERS:
        raise UserError(f"{path}: tokenizer is {name!r}, expected {' or '.join(TOKENIZERS)}")
    return TOKENIZERS[name].of_files(path.parent, settings)

"""YAML files."""

from pathlib import Path
from typing import Any

import yaml

from mtdnn_tf.errors import UserError, did_you_mean_file


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file whose top level is a mapping.

    Raises:
        UserError: The file is missing, not UTF-8, not YAML, or not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = did_you_mean_file(path)
        raise UserError(f"cannot read the config {path}: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(tree).__name__}")
    return tree

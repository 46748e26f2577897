"""YAML files: YAML 1.2, read more strictly than it asks.

A key given twice is an error. A number is decimal and has no leading zeros: what else a program might
take for one (`010`, `0x1F`, `12:30`, `1_000`) is text. Keys, and the scalars below the keys of
`AS_WRITTEN`, are always the text that is written.
"""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver

from mtdnn_tf.errors import UserError, did_you_mean_file

# Labels are what a data file says: `[1.0, 010, true]` are three texts.
AS_WRITTEN = {"labels", "label_values", "skip_labels"}
MAX_DEPTH = 100

_TAG = "tag:yaml.org,2002:"
_NUMBER = r"(?:0|[1-9][0-9]*)"


def _float(text: str) -> float:
    return float(re.sub(r"\.(?=[in])", "", text.lower()))  # Python's `inf` has no point.


# How a scalar without quotes is read where it is not text: its tag's name to its form and its value.
_SCALARS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"|~|null|Null|NULL", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?(?:0|[1-9][0-9]{0,99})", int),
    "float": (
        rf"[-+]?(?:\.[0-9]+|{_NUMBER}(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        _float,
    ),
}


class _Resolver(VersionedResolver):
    _RULES: ClassVar = {
        None: [(_TAG + name, re.compile(rf"(?:{form})\Z")) for name, (form, _) in _SCALARS.items()]
    }

    @property
    def versioned_resolver(self) -> dict[None, list[tuple[str, re.Pattern[str]]]]:
        """First character of a scalar, here None for any, to the tags it may have."""
        return self._RULES


class _Representer(SafeRepresenter):
    """Writes text in quotes wherever YAML 1.1 or 1.2 might take it for something else."""

    _PLAIN = re.compile(
        r"(?!(?:y|yes|n|no|on|off|true|false|null)\Z)[a-z_](?:[\w./ -]*\w)?", re.I | re.A
    )

    def represent_str(self, data: str) -> ScalarNode:
        style = None if self._PLAIN.fullmatch(data) else '"'
        return self.represent_scalar(f"{_TAG}str", data, style=style)

    def represent_float(self, data: float) -> ScalarNode:
        text = repr(data)
        if "." not in text:  # YAML 1.1 takes `1e-05` for text.
            text = text.replace("e", ".0e")
        return self.represent_scalar(f"{_TAG}float", text)


_Representer.add_representer(str, _Representer.represent_str)
_Representer.add_representer(float, _Representer.represent_float)


def _yaml() -> YAML:
    yaml: Any = YAML(typ="safe", pure=True)  # Its own types are too narrow.
    yaml.Resolver, yaml.Representer = _Resolver, _Representer
    yaml.max_depth = MAX_DEPTH
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = sys.maxsize  # ruamel.yaml loses where it breaks a line after an escape.
    return yaml


def yaml_text(tree: dict[str, Any]) -> str:
    """A tree of strings, finite numbers, truth values, nulls, lists and mappings as YAML."""
    stream = io.StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue()


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file whose top level is a mapping.

    Raises:
        UserError: The file is missing, not UTF-8, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        hint = did_you_mean_file(path)
        raise UserError(f"cannot read the config {path}: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(tree).__name__}")
    return tree


def parse_yaml(text: str, where: str, key: str = "") -> Any:
    """Reads a YAML document; what an alias stands for is a copy.

    Args:
        text: The document.
        where: What an error's message begins with, such as the file.
        key: The dotted key that the document is the value of; see `AS_WRITTEN`.

    Raises:
        UserError: It is not YAML, has a key twice in a mapping, or a tag that is not YAML's own.
    """
    try:
        node = _yaml().compose(text)
        return None if node is None else _Reader(where).of_key(key, node, False)
    except YAMLError as error:
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UserError(f"{where}: an anchor has itself inside") from error


class _Reader:
    def __init__(self, where: str) -> None:
        self._where = where

    def of_key(self, key: str, node: Node, as_written: bool) -> Any:
        """The value of a key, which may be dotted."""
        *parents, last = key.split(".")
        inside = last in AS_WRITTEN and not isinstance(node, ScalarNode)
        return self.value(node, as_written or inside or not AS_WRITTEN.isdisjoint(parents))

    def value(self, node: Node, as_written: bool) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        if isinstance(node, MappingNode) and kind == "map":
            return self._mapping(node, as_written)
        if isinstance(node, SequenceNode) and kind == "seq":
            return [self.value(item, as_written) for item in node.value]
        if isinstance(node, ScalarNode) and kind == "str":
            return node.value
        form, convert = _SCALARS.get(kind, ("", str))
        if not isinstance(node, ScalarNode) or not re.fullmatch(form, node.value):
            raise self._error(node, f"the tag {node.tag} is not known here")
        return node.value if as_written else convert(node.value)

    def _mapping(self, node: MappingNode, as_written: bool) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error(key_node, "a key should be text, not a list or mapping")
            key, line = key_node.value, _line(key_node)
            if key in lines:
                raise UserError(
                    f"{self._where}: {key} is given twice, in line {lines[key]} and line {line}"
                )
            lines[key] = line
            if key == "<<" and key_node.style is None:
                merged = self._merged(value_node, as_written)
            else:
                own[key] = self.of_key(key, value_node, as_written)
        return merged | own

    def _merged(self, node: Node, as_written: bool) -> dict[str, Any]:
        """What `<<: *one` or `<<: [*one, *other]` stands for; of two, the first goes first."""
        merged: dict[str, Any] = {}
        for item in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(item, MappingNode):
                raise self._error(item, "<< should be a mapping, or a list of them")
            merged = self._mapping(item, as_written) | merged
        return merged

    def _error(self, node: Node, problem: str) -> UserError:
        return UserError(f"{self._where}: line {_line(node)}: {problem}")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1

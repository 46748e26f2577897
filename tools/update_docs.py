"""Writes docs/reference.md from the pydantic models and the suites: every setting, every task.

python tools/update_docs.py          # after a setting or a task was changed
python tools/update_docs.py --check  # exits with 1 where the page is not true any more
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docstring_parser
from absl import flags
from pydantic import BaseModel

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.data import DataSettings, Fold, Subset
from mtdnn_tf.experiment.distillation import DistillationSettings
from mtdnn_tf.experiment.settings import (
    BatchSettings,
    EncoderSettings,
    Experiment,
    InitSettings,
    MixtureSettings,
    TrainingSettings,
)
from mtdnn_tf.files import write_atomically
from mtdnn_tf.recipes.distillation_file import StudentRecipe, TeachersRecipe
from mtdnn_tf.tasks import builtin_tasks
from mtdnn_tf.tasks.heads import SANSettings
from mtdnn_tf.tasks.spec import RankingSettings, TaskSpec
from mtdnn_tf.tasks.split import SplitSpec

PAGE = Path(__file__).parents[1] / "docs/reference.md"
# Heading to model, in the order of the page.
MODELS: dict[str, type[BaseModel]] = {
    "`tasks`, `encoder`, ...: the experiment": Experiment,
    "`tasks.NAME`": TaskSpec,
    "`tasks.NAME.splits.SPLIT`": SplitSpec,
    "`tasks.NAME.ranking`": RankingSettings,
    "`tasks.NAME.san`": SANSettings,
    "`encoder`": EncoderSettings,
    "`init`": InitSettings,
    "`data`": DataSettings,
    "`data.folds.NAME`": Fold,
    "`data.subsets.NAME`": Subset,
    "`batch`": BatchSettings,
    "`mixture`": MixtureSettings,
    "`training`": TrainingSettings,
    "`distillation`": DistillationSettings,
    "`teachers` of a recipe": TeachersRecipe,
    "`student` of a recipe": StudentRecipe,
}
HEADER = """# Reference

Every setting of a config, and every built-in task. `tools/update_docs.py` writes this page from the
code.

A config is an experiment, a YAML file for `--config`; any setting can be given on the command line
as well, `--set=training.epochs=2`. A recipe, for `mtdnn-distill`, is an experiment with the
sections `teachers` and `student`.

Paths, in a config and in flags, are local: `~` at the beginning is the home folder, and an address
such as `gs://bucket/x` is refused. A flag or a `--set` with an empty value, as of a variable that is
not set, is refused as well; nothing is written `null`.
Every command takes `--traceback`, which shows where in the code an error came from.
Predictions on standard output are UTF-8, whatever the terminal shows; in messages and tables,
characters that the terminal lacks are written as `\\u` escapes.

Files and `--set` are YAML 1.2, read strictly. Labels and the keys of mappings are the text that is
written: `[010, 1.0, yes, true]` are four texts. A number is decimal, without leading zeros or quotes
(`1e-4` is one; `010`, `0x1F`, `12:30` and `'3'` are text), and finite. A truth value is `true` or
`false`, and never a number. A key given twice is an error. What an alias stands for is a copy.

A run's `config.yaml` is a config too: every setting, every task in full, and the number of its
`format`. A task that says all of `name`, `kind`, `fields` and `splits` is taken as it is, even one
with the name of a built-in task.
"""


def _define_flags() -> None:
    flags.DEFINE_bool("check", False, "Write nothing; exit with 1 where the page would change.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    text = reference()
    if values.check:
        if not PAGE.exists() or PAGE.read_text("utf-8") != text:
            raise UserError(f"{PAGE} is not true any more; run `python tools/update_docs.py`")
        return 0
    write_atomically(PAGE, text)
    return 0


def reference() -> str:
    """The page."""
    parts = [HEADER]
    for heading, model in MODELS.items():
        parts += [f"\n## {heading}\n\n", *_section(model)]
    parts += ["\n## Built-in tasks\n\n", *_tasks()]
    return "".join(parts)


def _section(model: type[BaseModel]) -> Iterator[str]:
    documented = _documented(model)
    texts = filter(None, [documented.short_description, documented.long_description])
    yield "\n\n".join(texts)
    yield "\n\n| key | value | default | |\n| --- | --- | --- | --- |\n"
    bases = [base for base in reversed(model.__mro__) if issubclass(base, BaseModel)]
    meanings = {item.arg_name: item.description for b in bases for item in _documented(b).params}
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    for name, of_one in schema["properties"].items():
        if (model, name) == (TaskSpec, "name"):
            continue  # It is the key in the map.
        default = "needed" if name in schema.get("required", ()) else _default(of_one)
        meaning = meanings.get(name) or _first_line(of_one, definitions)
        cells = [f"`{name}`", _kind(of_one, definitions), default, meaning]
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |\n"


def _documented(model: type[BaseModel]) -> docstring_parser.Docstring:
    return docstring_parser.parse(model.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)


def _first_line(of_one: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a section says of itself."""
    name = of_one.get("$ref", "").rsplit("/", 1)[-1]
    return definitions.get(name, {}).get("description", "").partition("\n")[0]


def _default(of_one: Mapping[str, Any]) -> str:
    default = of_one.get("default")
    if isinstance(default, dict) and default:
        return "see there"  # A section: its settings have defaults of their own.
    return f"`{json.dumps(default)}`"


def _kind(of_one: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a value has to be, for a person."""
    if "$ref" in of_one:
        return _kind(definitions[of_one["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in of_one:
        return " or ".join(_kind(choice, definitions) for choice in of_one["anyOf"])
    if "enum" in of_one:
        return ", ".join(f"`{value}`" for value in of_one["enum"])
    if "const" in of_one:
        return f"`{of_one['const']}`"
    kind = of_one.get("type")
    if kind == "array":
        if "prefixItems" in of_one:
            return f"list of {len(of_one['prefixItems'])}"
        return f"list of: {_kind(of_one['items'], definitions)}"
    if kind == "object":
        inner = of_one.get("additionalProperties")
        if not isinstance(inner, dict) or not inner:
            return "section" if "properties" in of_one else "map"
        return f"map to: {_kind(inner, definitions)}"
    names = {"integer": "whole number", "boolean": "`true`, `false`", "null": "null"}
    return names.get(str(kind), str(kind)) + _bounds(of_one)


def _bounds(of_one: Mapping[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    found = [f"{word} {of_one[key]:g}" for key, word in words.items() if key in of_one]
    return f" {' and '.join(found)}" if found else ""


def _tasks() -> Iterator[str]:
    yield "| task | suite | kind | text fields | labels, in order | metrics | splits |\n"
    yield f"|{' --- |' * 7}\n"
    for task in builtin_tasks().values():
        low, high = task.score_range or (0, 0)
        score = f"a score from {low:g} to {high:g}" if task.score_range else ""
        head = f"those of `{task.predict_with}`" if task.predict_with else ""
        cells = [
            f"`{task.name}`",
            task.folder or "",
            task.kind.name,
            ", ".join(task.fields),
            ", ".join(task.labels) or score or head,
            ", ".join(task.metrics),
            ", ".join(task.splits),
        ]
        yield f"| {' | '.join(map(_cell, cells))} |\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")

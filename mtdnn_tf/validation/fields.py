"""Data against a pydantic model, with mistakes told in one line."""

import types
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails

from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.files import local_path

Model = TypeVar("Model", bound=BaseModel)


def is_saved(info: ValidationInfo) -> bool:
    """Whether a run has saved what is validated: rules about names may be younger than the run."""
    return bool(info.context)


def _local_path(text: str, info: ValidationInfo) -> str:
    try:
        return local_path(text)
    except ValueError:
        if is_saved(info):
            return text
        raise


Positive = Annotated[StrictInt, Field(ge=1)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**32)]
LocalPath = Annotated[str, AfterValidator(_local_path)]

MAX_INPUT_CHARS = 60
# Errors whose message already says what was found, or that found nothing.
COMPLETE = {"extra_forbidden", "missing", "value_error", "too_short", "too_long"}


class Section(BaseModel):
    """A part of a config: no unknown keys, no infinite numbers.

    Numbers and truth values of its fields are `StrictInt`, `StrictFloat` and `StrictBool`, which take
    nothing of another kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def validated(model_class: type[Model], data: object, where: str, *, saved: bool = False) -> Model:
    """Returns `model_class` made of `data`, which a user wrote.

    Args:
        model_class: A pydantic model, nested or not.
        data: What was read from YAML or JSON.
        where: What the message begins with: a file, or a task.
        saved: Whether a run has saved it; see `is_saved`.

    Raises:
        UserError: `data` does not fit. The message is one line, such as
            `configs/x.yaml: training.learnin_rate: unknown key; did you mean 'learning_rate'?`
    """
    try:
        return model_class.model_validate(data, context=saved)
    except ValidationError as error:
        message = _first_mistake(model_class, data, error.errors(include_url=False))
    raise UserError(f"{where}: {message}")


def _first_mistake(model_class: type[BaseModel], data: object, errors: list[ErrorDetails]) -> str:
    # A misspelled key often makes another key missing: the misspelling is the mistake to name. And a
    # check of our own is of a value that has the right type, in a union with members of other types.
    telling = ("extra_forbidden", "value_error")
    chosen = next((e for kind in telling for e in errors if e["type"] == kind), errors[0])
    path = _path(chosen, data)
    # A value that fits no member of a union has one error for each member.
    same = [e for e in errors if _path(e, data) == path]
    same = [chosen] if chosen["type"] == "value_error" else same
    text = " or ".join(dict.fromkeys(_reason(e, path, model_class) for e in same))
    if chosen["type"] not in COMPLETE:
        text += _but_found(chosen["input"])
    name = ".".join(str(part) for part in path)
    return f"{name}: {text}" if name else text


def _path(error: ErrorDetails, data: object) -> tuple[str | int, ...]:
    """The keys from the top of `data` to the mistake, without pydantic's names of union members."""
    path: list[str | int] = []
    for part in error["loc"]:
        has_key = isinstance(data, dict) and part in data
        has_item = isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        if has_key or has_item:
            data = data[part]  # type: ignore[index]
            path.append(part)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    return tuple(path)


def _reason(error: ErrorDetails, path: tuple[str | int, ...], model_class: type[BaseModel]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "unknown key" + did_you_mean(str(path[-1]), _known_keys(model_class, path[:-1]))
        case "missing":
            return "is required"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "model_type" | "dict_type":
            return "should be a mapping of keys to values"
    # Pydantic writes "Input should be ...", "String should match ...", "Tuple should have ...".
    _, should, expected = error["msg"].partition(" should ")
    return f"should {expected}" if should else error["msg"]


def _but_found(found: object) -> str:
    text = repr(found)
    return f", not {text if len(text) <= MAX_INPUT_CHARS else text[:MAX_INPUT_CHARS] + '...'}"


def _known_keys(model_class: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    """Keys of the models that can stand at `path` below `model_class`."""
    found: list[Any] = [model_class]
    for part in path:
        found = [member for kind in found for member in _below(kind, part)]
    return sorted({key for kind in found if _is_model(kind) for key in kind.model_fields})


def _below(kind: Any, part: str | int) -> list[Any]:
    """Types of what `kind`, a model or a container, has at the key or position `part`."""
    if _is_model(kind):
        field = kind.model_fields.get(part)
        return _members(field.annotation) if field else []
    arguments = [a for a in get_args(kind) if a is not Ellipsis]
    if not arguments:
        return []
    if get_origin(kind) is tuple and isinstance(part, int) and part < len(arguments):
        return _members(arguments[part])
    return _members(arguments[-1])


def _members(kind: Any) -> list[Any]:
    """`kind` itself, or the members of a union."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for argument in get_args(kind) for member in _members(argument)]
    return [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)

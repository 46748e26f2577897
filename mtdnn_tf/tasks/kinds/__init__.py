"""The kinds of tasks, a file each."""

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from mtdnn_tf.tasks.kinds.classification import Classification
from mtdnn_tf.tasks.kinds.kind import Kind
from mtdnn_tf.tasks.kinds.ranking import Ranking
from mtdnn_tf.tasks.kinds.similarity import Similarity
from mtdnn_tf.validation.registry import Registry

__all__ = ["KINDS", "Kind", "KindName"]

KINDS: Registry[Kind] = Registry(
    "kind",
    (
        Classification("single_classification", texts=1),
        Classification("pair_classification", texts=2),
        Similarity(),
        Ranking(),
    ),
)


def _named(value: Any) -> Kind:
    if isinstance(value, Kind):
        return value
    return KINDS.find(value)


# A kind in a spec: an object in memory, its name in YAML and JSON.
KindName = Annotated[
    Kind,
    PlainValidator(_named),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "enum": list(KINDS)}),
]

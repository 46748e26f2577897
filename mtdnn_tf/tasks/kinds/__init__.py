"""The kinds of tasks, a file each."""

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from mtdnn_tf.errors import did_you_mean
from mtdnn_tf.tasks.kinds.classification import Classification
from mtdnn_tf.tasks.kinds.kind import Kind
from mtdnn_tf.tasks.kinds.ranking import Ranking
from mtdnn_tf.tasks.kinds.similarity import Similarity

__all__ = ["KINDS", "Kind", "KindName"]

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Classification("single_classification", texts=1),
        Classification("pair_classification", texts=2),
        Similarity(),
        Ranking(),
    )
}


def _named(value: Any) -> Kind:
    if isinstance(value, Kind):
        return value
    if value not in KINDS:
        raise ValueError(f"no kind is called {value!r}{did_you_mean(str(value), KINDS)}")
    return KINDS[value]


# A kind in a spec: an object in memory, its name in YAML and JSON.
KindName = Annotated[
    Kind,
    PlainValidator(_named),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "enum": list(KINDS)}),
]

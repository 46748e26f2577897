"""The objects of a TF2 checkpoint, and the way to each of them."""

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained.tf_checkpoint import OBJECT_GRAPH, CheckpointReader


class ObjectGraph:
    """The objects in a checkpoint and the names by which they hold each other.

    Args:
        reader: An object-based checkpoint.

    Raises:
        UserError: The graph can't be read.
    """

    def __init__(self, reader: CheckpointReader) -> None:
        try:
            self._nodes = TrackableObjectGraph.FromString(reader.raw(OBJECT_GRAPH)).nodes
        except DecodeError:
            raise UserError(f"{reader.path}: the graph of its objects can't be read") from None

    def children(self, node: int) -> dict[str, int]:
        """The objects that an object holds, by name."""
        return {child.local_name: child.node_id for child in self._nodes[node].children}

    def follow(self, node: int, way: str) -> int | None:
        """The object at the end of a way such as `_pooler_layer/kernel`, if there is one."""
        found: int | None = node
        for name in way.split("/"):
            found = None if found is None else self.children(found).get(name)
        return found

    def key(self, node: int | None) -> str | None:
        """The checkpoint's key of a variable; None for any other object."""
        attributes = [] if node is None else self._nodes[node].attributes
        return next((a.checkpoint_key for a in attributes if a.name == "VARIABLE_VALUE"), None)

    def find(self, *marks: str) -> tuple[int, str] | None:
        """The object nearest to the root that has a way to any of `marks`, if there is one.

        Returns:
            The object, and the way to it with a final slash; the root's is empty.
        """
        ways = {0: ""}
        queue = [0]
        for node in queue:
            if any(self.follow(node, mark) is not None for mark in marks):
                return node, ways[node]
            for name, child in self.children(node).items():
                if child not in ways:
                    ways[child] = f"{ways[node]}{name}/"
                    queue.append(child)
        return None

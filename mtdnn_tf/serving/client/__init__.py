"""Asks a model server, over gRPC or REST."""

from mtdnn_tf.serving.client.client import Client

__all__ = ["Client"]

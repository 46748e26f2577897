"""A small benchmark in GLUE's layout, written by the project's own grammar for `make demo`."""

from mtdnn_tf.demo_data.benchmark import write_benchmark

__all__ = ["write_benchmark"]

"""Stands in for rules_python: the rule that is built into Bazel 4."""

py_runtime = native.py_runtime

"""Stands in for rules_python: the rules that are built into Bazel 4."""

py_library = native.py_library

def py_binary(**kwargs):
    native.py_binary(python_version = "PY3", srcs_version = "PY3", **kwargs)

def py_test(**kwargs):
    native.py_test(python_version = "PY3", srcs_version = "PY3", **kwargs)

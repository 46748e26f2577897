"""The interpreter of the project's virtual environment as Bazel's toolchain for Python 3."""

_BUILD = """
load("@rules_python//python:py_runtime.bzl", "py_runtime")
load("@rules_python//python:py_runtime_pair.bzl", "py_runtime_pair")

package(default_visibility = ["//visibility:public"])

py_runtime(
    name = "runtime",
    interpreter_path = "{python}",
    python_version = "PY3",
)

py_runtime_pair(
    name = "pair",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _local_python_impl(context):
    python = context.os.environ.get("PROJECT_PYTHON")
    if not python:
        fail("PROJECT_PYTHON is not set: the interpreter whose packages are used; see tools/bazel_test.sh")
    context.file("BUILD", _BUILD.format(python = python))

local_python = repository_rule(
    implementation = _local_python_impl,
    environ = ["PROJECT_PYTHON"],
    local = True,
)

"""Stands in for rules_proto: the rules that are built into Bazel 4."""

proto_lang_toolchain = native.proto_lang_toolchain
proto_library = native.proto_library

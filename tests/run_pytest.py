"""Runs pytest on files of tests, as the main program of Bazel's tests."""

import sys

import pytest

if __name__ == "__main__":
    raise SystemExit(pytest.main(["-m", "not long", "-p", "no:cacheprovider", *sys.argv[1:]]))

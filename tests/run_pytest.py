"""Runs pytest on files of tests, as the main program of Bazel's tests."""

import sys

import pytest

if __name__ == "__main__":
    code = pytest.main(["-m", "not long", "-p", "no:cacheprovider", *sys.argv[1:]])
    # A file may be of long tests alone, or skip where the repository is not around it.
    raise SystemExit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)

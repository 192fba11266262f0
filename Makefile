# Two commands that need only python3, its venv module and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCHMARKS := bench-networks bench-layers bench-scaling bench-steadiness bench-tuning \
	bench-metaschedule

.PHONY: demo test fuzz lint types check clean bench-gpu-build $(BENCHMARKS)

demo: $(VENV)/.demo
	$(BIN)/python examples/digits_demo.py

# Not `python -m pytest`, which would put this folder first and hide the installed package. Each process takes
# tests that stand beside each other, as long as there are any: they share what they have compiled.
test: $(VENV)/.test
	$(BIN)/pytest --numprocesses 2 --dist worksteal

# Random graphs beside onnxruntime: `make fuzz COUNT=5000`.
COUNT ?= 1000
fuzz: $(VENV)/.test
	CONVC_RANDOM_GRAPHS=$(COUNT) $(BIN)/pytest --numprocesses 2 tests/test_random_graphs.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Each writes benchmarks/results/CPU/NAME.json and .svg; for instance
# `make bench-networks ARGS="--threads 2,1 folder_of_models"`. Run them on a quiet machine.
$(BENCHMARKS): bench-%: $(VENV)/.bench
	$(BIN)/python benchmarks/$*.py $(ARGS)

# A folder to be run on a GPU machine: `make bench-gpu-build ARGS="--arch sm_90 --out FOLDER"`.
bench-gpu-build: $(VENV)/.bench
	$(BIN)/python benchmarks/gpu/build.py $(ARGS)

# From another folder: tools that read paths do not follow the mapping of packages to folders.
types: $(VENV)/.test
	cd $(VENV) && bin/python -m mypy --config-file ../pyproject.toml -p convc
	cd $(VENV) && bin/python -m mypy --config-file ../pyproject.toml ../benchmarks

check: test lint types

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The package itself is installed, not linked, so that tests see what users get.
SOURCES := pyproject.toml $(shell find convc frontends schedules -name '*.py' -o -name '*.[ch]')

$(VENV)/.demo: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[demo,bench]'
	touch $@

$(VENV)/.bench: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[bench]'
	touch $@

$(VENV)/.test: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info

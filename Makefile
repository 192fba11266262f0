# Two commands that need only python3, its venv module and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types check clean

demo: $(VENV)/.demo
	$(BIN)/python examples/digits_demo.py

# Not `python -m pytest`, which would put this folder first and hide the installed package.
test: $(VENV)/.test
	$(BIN)/pytest --numprocesses 2

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# From another folder: tools that read paths do not follow the mapping of packages to folders.
types: $(VENV)/.test
	cd $(VENV) && bin/python -m mypy --config-file ../pyproject.toml -p convc

check: test lint types

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The package itself is installed, not linked, so that tests see what users get.
SOURCES := pyproject.toml $(shell find convc frontends schedules -name '*.py' -o -name '*.c')

$(VENV)/.demo: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[demo,bench]'
	touch $@

$(VENV)/.test: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info

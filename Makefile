# make demo   sets everything up, meta-trains PAMELA on the embedded letters, and tests it
# make test   sets everything up, and passes the tests
# make bench  compares the speed with other libraries, as docs/performance.md says
#
# The tests of real datasets look for cifar100.zip, images_background.zip and images_evaluation.zip in the folder
# that the environment variable PAMELA_SHARED_DATA names (usually ../shared/data), and are skipped without.
# PYTHON=python3.12 picks another interpreter, TORCH=torch==2.9.0 another PyTorch (any from 2.9 serves).

PYTHON ?= python3
VENV ?= .venv
# The version that the numbers in the README were measured with.
TORCH ?= torch==2.13.0
BIN = $(VENV)/bin

.PHONY: demo test bench slow lint setup clean

demo: $(VENV)/.installed
	$(BIN)/pamela meta-train --way 5 --shot 1

test: $(VENV)/.tested
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

slow: $(VENV)/.tested
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.benched
	$(BIN)/python -m pytest tests/benchmarks
	$(BIN)/python -m benchmarks engine

lint: $(VENV)/.tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

setup: $(VENV)/.tested

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install "$(TORCH)"
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --editable ".[test]"
	touch $@

$(VENV)/.benched: $(VENV)/.installed
	$(BIN)/python -m pip install --editable ".[bench,test]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

# The same commands locally and in CI. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
APP ?= pets
VENV := .venv
BIN := $(VENV)/bin
UV := 0.13.9
# Of the tests, which often wait for servers and processes: for two processors, on which CI runs.
WORKERS ?= 3
PEER := .practicum/peer
# Byte code is written at installation (it halves every import), whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup repro test check benchmark ui docs lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## .venv with the locked requirements

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt
	touch $@

lock:  ## compile requirements.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --python-version 3.11 --extra dev --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --python-version 3.11 --custom-compile-command "make lock" benchmarks/peer/requirements.in \
	  -o benchmarks/peer/requirements.txt

repro: setup  ## data to exported model of APP (default pets; all for every application), offline in the sample edition
	@export PATH="$(CURDIR)/$(BIN):$$PATH" && \
	dvc repro $(if $(filter all,$(APP)),--glob 'export@*','export@$(APP)') && \
	python -m flows where $(APP)

check: setup  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check  ## check, then every test
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

benchmark: setup $(PEER)/.installed  ## beside fastai (in .practicum/peer) and a bare loop, on a quiet machine: docs/benchmarks.md
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks $(if $(CASE),speed $(CASE),all) --peer $(PEER)/bin/python

$(PEER)/.installed: benchmarks/peer/requirements.txt | setup
	$(PYTHON) -m venv --without-pip $(PEER)
	$(BIN)/uv pip install --quiet --python $(PEER)/bin/python --compile-bytecode --require-hashes -r $<
	touch $@

ui: setup  ## the MLflow UI on the store of this checkout
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m flows ui

docs: setup  ## docs/results.md, and the README's table and tree
	$(BIN)/python -m flows results

clean:  ## remove the installation and everything that can be made again (artifacts/ stays)
	rm -rf $(VENV) .practicum/cache .mypy_cache .ruff_cache .pytest_cache

# The same commands locally and in CI. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
APP ?= pets
VENV := .venv
BIN := $(VENV)/bin
UV := 0.13.9
# Byte code is written at installation (it halves every import), whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup repro test check ui lock clean

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

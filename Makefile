# Two commands for everybody: `make quickstart` and `make test`. Both set up what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# pip 25.1 is the first that installs dependency groups.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints/pylate.txt

.PHONY: quickstart test test-sentence-transformers check format lint types imports wheel clean

quickstart: $(VENV)/.quickstart
	$(BIN)/python -m train configs/quickstart.yaml
	$(BIN)/python -m eval configs/quickstart.yaml

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# The same tests with the other host, which cannot share an environment with PyLate.
test-sentence-transformers: .venv-st/.dev
	.venv-st/bin/python -m pytest tests/projheads tests/experiment/test_tokens_hosts.py tests/train

check: lint types imports test wheel

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

wheel: $(VENV)/.dev
	$(BIN)/python tests/check_wheel.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv-st/.dev: pyproject.toml
	$(PYTHON) -m venv .venv-st
	.venv-st/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv-st/bin/python -m pip install --quiet --disable-pip-version-check --group dev --editable '.[sentence-transformers,onnx]'
	touch $@

clean:
	rm -rf $(VENV) .venv-st build dist *.egg-info

$(VENV)/.pip: constraints/pylate.txt
	@echo "setting up $(VENV) (a few minutes, once)"
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "projheads needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	touch $@

$(VENV)/.quickstart: $(VENV)/.pip pyproject.toml
	$(INSTALL) --group quickstart --editable '.[pylate]'
	touch $@

$(VENV)/.dev: $(VENV)/.pip pyproject.toml
	$(INSTALL) --group dev --editable '.[pylate,onnx]'
	touch $@ $(VENV)/.quickstart

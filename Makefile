# The two main commands are `make quickstart` and `make test`. Both install what they need.
# PyLate and sentence-transformers >= 6 cannot share an environment; each has its own, with its own constraints.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
VENV_ST := .venv-st
BIN_ST := $(VENV_ST)/bin
PIP_OPTIONS := --quiet --disable-pip-version-check
# pip 25.1 is the first version that installs dependency groups.
INSTALL = $(BIN)/python -m pip install $(PIP_OPTIONS) --constraint constraints/pylate.txt
INSTALL_ST = $(BIN_ST)/python -m pip install $(PIP_OPTIONS) --constraint constraints/sentence-transformers.txt
# The tests that depend on the host; the others never load one.
TESTS_ST := tests/test_kills.py tests/projheads tests/examples tests/peers tests/experiment/encoding/test_tokens_hosts.py tests/train tests/eval/test_real_host.py tests/eval/test_embed.py tests/eval/search/test_pooling.py
# Folder with the hosts' sources, pylate/ and sentence-transformers/: see tests/peers/__main__.py.
PROJHEADS_PEERS ?= peers

.PHONY: quickstart test test-pylate test-sentence-transformers fuzz peers mutation check format lint types imports wheel docs clean

quickstart: $(VENV)/.quickstart
	$(BIN)/python -m answer configs/quickstart.yaml --workers auto

test: test-pylate test-sentence-transformers

test-pylate: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-sentence-transformers: $(VENV_ST)/.test
	OMP_NUM_THREADS=1 $(BIN_ST)/python -m pytest -n 2 $(TESTS_ST)

# The property tests with FUZZ times as many examples, new ones each time.
fuzz: FUZZ ?= 20
fuzz: $(VENV)/.dev $(VENV_ST)/.test
	PROJHEADS_FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(shell grep -rl tests.fuzz tests --include='test_*.py')
	PROJHEADS_FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(BIN_ST)/python -m pytest tests/test_kills.py

# The hosts' own tests, with our heads instead of their Dense.
peers: $(VENV)/.dev $(VENV_ST)/.test
	$(BIN)/python tests/peers $(PROJHEADS_PEERS)/pylate
	$(BIN_ST)/python tests/peers $(PROJHEADS_PEERS)/sentence-transformers

# Which small changes of the code the tests do not notice; MUTATION="verdicts --sample 60 --seed 1".
mutation: $(VENV)/.mutation
	nice $(BIN)/python -m benchmarks.mutation $(MUTATION)

check: lint types imports docs test wheel

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

wheel: $(VENV)/.dev
	$(BIN)/python tests/check_wheel.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(VENV_ST) build dist site *.egg-info

$(VENV)/.pip: constraints/pylate.txt
$(VENV_ST)/.pip: constraints/sentence-transformers.txt
$(VENV)/.pip $(VENV_ST)/.pip:
	@echo "setting up $(@D) (once; takes a few minutes)"
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "projheads needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install $(PIP_OPTIONS) --upgrade 'pip>=25.1'
	touch $@

$(VENV)/.quickstart: $(VENV)/.pip pyproject.toml
	$(INSTALL) --group quickstart --editable '.[pylate]'
	touch $@

$(VENV)/.dev: $(VENV)/.pip pyproject.toml
	$(INSTALL) --group dev --editable '.[pylate,onnx]'
	touch $@ $(VENV)/.quickstart

$(VENV)/.mutation: $(VENV)/.dev
	$(INSTALL) --group mutation
	touch $@

$(VENV_ST)/.test: $(VENV_ST)/.pip pyproject.toml
	$(INSTALL_ST) --group test --editable '.[sentence-transformers,onnx]'
	touch $@

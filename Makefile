# install, demo, test and check are complete on a fresh machine: each makes .venv and installs what is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo test check docs

install: $(INSTALLED)  ## everything, the extras included

$(INSTALLED): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,minilm,docs]'
	@touch $@

demo: install  ## train on the built-in sample, score, write a page
	$(BIN)/accelerate launch --config_file accelerate_config.yaml recipes/train_bookcorpus.py

test: install  ## every test, on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: install  ## what a machine can see without running: style, types, import layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py

docs: install  ## the site, into site/; a broken link or anchor is an error
	$(BIN)/zensical build --strict --clean

# make demo    install into .venv, then train with a gate on the bundled corpus
# make test    install into .venv, then run the tests
# make lint    ruff, mypy, the order of the packages (import-linter), and the docs, whose warnings are errors
# make compare compare what the code gives with what that of tools/base_revision gives, in small
# make test-lowest  run the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
# make docs    write the docs' generated parts again, then build the site in docs/_build
#
# Variables: PYTHON (the Python that .venv is made of), ARGS (further arguments of demo, test and compare).

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && exit; done; echo python3)
endif

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
SITE = $(PY) -m sphinx -W --keep-going -q docs docs/_build

.PHONY: demo test test-lowest lint compare docs
.DELETE_ON_ERROR:

demo: $(READY)
	$(PY) train.py combiner=gate $(ARGS)

test: $(READY)
	$(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

LOWEST := .venv-lowest/bin
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --resolution lowest-direct -e '.[dev]'
	$(LOWEST)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(READY)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(SITE)

compare: $(READY)
	$(PY) tools/compare_revisions.py --small $(ARGS)

docs: $(READY)
	$(PY) scripts/config_docs.py
	$(PY) scripts/combiner_docs.py
	$(SITE)
	@echo "Written: docs/_build/index.html"

$(READY): pyproject.toml constraints.txt | $(PY)
	@echo "Installing the tested versions into $(VENV); PyTorch takes the longest."
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(PY):
	@$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || { \
		echo "nmt_feat needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is" \
			"$$($(PYTHON) --version 2>&1 || true). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)

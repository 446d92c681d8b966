# make demo and make test need Python >= 3.11, a C compiler and make; they create the rest.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
# Everything a built extension module depends on.
SOURCES := pyproject.toml setup.py $(shell find fastein -name '*.pyx' -o -name '*.pxd')
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test lint docs bench clean

help:
	@echo 'make demo    an attention layer of a real model, beside NumPy; writes fastein-demo.png'
	@echo 'make test    the whole test suite'
	@echo 'make lint    ruff, mypy, cython-lint'
	@echo 'make docs    the documentation, into docs/_build/html'
	@echo 'make bench   the asv benchmarks, in the environment at hand'
	@echo 'make clean   removes what the other targets made'

demo: $(VENV)/.demo
	$(BIN)/python -m fastein.demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" cython-lint fastein

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.bench
	cd asv_bench && $(abspath $(BIN))/asv run -E existing

clean:
	rm -rf .venv build dist docs/_build docs/api/generated asv_bench/.asv *.egg-info fastein-demo.png
	find fastein -name '*.so' -delete

# A stamp per extra; each is renewed, and the extension modules rebuilt, when a source changed.
$(VENV)/.%: $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) --editable '.[$*]'
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'fastein needs Python 3.11 or later; $(PYTHON) is not.' \
	         'Say which one to use: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	    echo '$(PYTHON) cannot create a virtual environment: its venv module is missing' \
	         '(on Debian and Ubuntu the package python3-venv).' >&2; rm -rf $(VENV); exit 1; }

# make demo and make test need Python >= 3.11, a C compiler and make; they create the rest.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2

BIN := $(VENV)/bin
# Everything a built extension module depends on.
SOURCES := pyproject.toml setup.py $(shell find fastein -name '*.pyx' -o -name '*.pxd')
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The suite's parts that run most of the compiled code, and need few kernels.
CHECKED := parser nest plan baseline dispatch runtime result_memory hostile hostile_calls faults \
           interrupts threads_smoke objects permutation contraction mirror packing
CHECK := -m pytest -q -n $(WORKERS) -m 'not slow' -p no:cacheprovider $(CHECKED:%=tests/test_%.py)

# What `make fuzz` does, and for how long.
TARGET ?= parser planner
FUZZ_SECONDS ?= 300

.PHONY: help demo test lint docs bench sanitize fuzz clean

help:
	@echo 'make demo    an attention layer of a real model, beside NumPy; writes fastein-demo.png'
	@echo 'make test    the whole test suite'
	@echo 'make lint    ruff, mypy, cython-lint'
	@echo 'make docs    the documentation, into docs/_build/html'
	@echo 'make bench   the asv benchmarks, in the environment at hand'
	@echo 'make sanitize   part of the suite with AddressSanitizer, and with guarded memory (GCC)'
	@echo 'make fuzz    coverage-guided calls, five minutes for each of two targets (GCC)'
	@echo 'make clean   removes what the other targets made'

demo: $(VENV)/.demo
	$(BIN)/python -m fastein.demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" cython-lint fastein

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.bench
	cd asv_bench && $(abspath $(BIN))/asv run -E existing

sanitize: SANITIZERS := -fsanitize=address,undefined
sanitize: $(VENV)/.checks
	CFLAGS='$(SANITIZERS) -fno-omit-frame-pointer -g1 -O1' LDFLAGS='$(SANITIZERS)' \
	    $(BIN)/python setup.py -q build --build-base build/sanitized --build-lib build/sanitized/lib
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so)" \
	    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    PYTHONMALLOC=malloc PYTHONSAFEPATH=1 PYTHONPATH='$(CURDIR)/build/sanitized/lib' \
	    $(BIN)/python $(CHECK)
	PYTHONMALLOC=debug $(BIN)/python $(CHECK)

fuzz: $(VENV)/.checks
	mkdir -p build/fuzzed
	$(CC) -O2 -shared -fPIC tests/fuzz/coverage.c -o build/fuzzed/coverage.so
	CFLAGS='-fsanitize-coverage=trace-pc -O1' \
	    $(BIN)/python setup.py -q build --build-base build/fuzzed --build-lib build/fuzzed/lib
	for target in $(TARGET); do \
	    $(BIN)/python tests/fuzz/corpus.py unpack $$target build/fuzzed/$$target && \
	    LD_PRELOAD=build/fuzzed/coverage.so PYTHONPATH=build/fuzzed/lib \
	        $(BIN)/python -P tests/fuzz/run.py $$target build/fuzzed/$$target \
	            -max_total_time=$(FUZZ_SECONDS) -max_len=256 -len_control=20 || exit 1; \
	done

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

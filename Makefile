# Needs Python 3.11 or newer with pip, and make. Everything else is installed into .venv from hash-pinned locks.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input -q

# Numeric libraries start one thread per core each; the work here is small arrays.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export POLARS_MAX_THREADS ?= 2

.PHONY: help demo test bench check figures lock clean

help:
	@echo "make demo    the main job on real input"
	@echo "make test    every test"
	@echo "make bench   the benchmarks behind the speed figures"
	@echo "make check   ruff, mypy --strict, import contract"
	@echo "make figures refresh intervals, docs/accuracy and what predictions decide in README and docs"
	@echo "make lock    refresh requirements.lock from pyproject.toml"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("supertwin needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	@$(BIN)/python -m supertwin.cli.demo

test: $(READY)
	@$(BIN)/python -m pytest

bench: $(READY)
	@$(BIN)/python -m pytest bench -o addopts="" -o python_files="bench_*.py" -q -p no:cacheprovider \
	    --benchmark-only --benchmark-columns=min,median,max,ops,rounds --benchmark-sort=name

check: $(READY)
	@$(BIN)/ruff check src tests bench
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

figures: $(READY)
	@$(BIN)/python -c "from supertwin.cli.figures import write_intervals; write_intervals()"
	@$(BIN)/python -m supertwin.cli.figures

lock:
	@test -x .scratch/lock/bin/uv || { $(PYTHON) -m venv .scratch/lock && .scratch/lock/bin/pip install -q uv; }
	@.scratch/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-annotate --no-header --upgrade -q -o requirements.lock

clean:
	@rm -rf $(VENV) .scratch .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks dist build

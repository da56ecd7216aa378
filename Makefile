# On a machine with Python >= 3.11, git and make alone: `make demo` or `make test`, nothing before them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Half of the suite waits for servers, clusters and killed processes to come and go; the longest files come first.
WORKERS ?= 2
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Each run starts dozens of Python processes; without bytecode every one of them compiles our modules anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check bench up clean

demo: $(READY)
	$(BIN)/stillroom demo --out demo-out

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(READY)
	@for name in $$(ls tests/bench | sed -n 's/^\([a-z]*\)\.py$$/\1/p'); do $(BIN)/python -m tests.bench.$$name --quick || exit 1; done

up: $(READY)
	STILLROOM_HOME=$${STILLROOM_HOME:-demo-out/home} $(BIN)/stillroom up

clean:
	rm -rf demo-out .pytest_cache .mypy_cache .ruff_cache

# The stamp is touched last: a cut installation is done again.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lite,test,dev,onnx,openvino,ssh,slurm,kubernetes]'
	touch $(READY)

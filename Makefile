# On a machine with Python >= 3.11, git and make alone: `make demo` or `make test`, nothing before them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More than this machine's usual two cores: tests that wait for servers, clusters and killed processes to come and go
# leave a seventh of the time of two to others. The longest files come first.
WORKERS ?= 3
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Each run starts dozens of Python processes; without bytecode every one of them compiles our modules anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check audit hashes bench docs up clean

demo: $(READY)
	$(BIN)/stillroom demo --out demo-out

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest --quiet -p no:cacheprovider $(addprefix tests/infra/deploy/test_,compose.py kubernetes.py containerfile.py)

audit: $(READY)
	$(BIN)/python .ci/audit.py hashes.txt

bench: $(READY)
	@for name in $$(ls tests/bench | sed -n 's/^\([a-z]*\)\.py$$/\1/p'); do $(BIN)/python -m tests.bench.$$name --quick || exit 1; done

# The documentation as a site; any broken link or missing page is an error. Its tools stay apart from the project's.
docs: $(READY) .venv-docs/.ready
	$(BIN)/python docs/reference.py docs/reference
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv-docs/.ready: docs/requirements.txt
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --require-hashes --no-deps --requirement docs/requirements.txt
	touch $@

# make up SPECS="fundus.yaml colon.yaml"
up: $(READY)
	STILLROOM_HOME=$${STILLROOM_HOME:-demo-out/home} $(BIN)/stillroom up $(SPECS)

clean:
	rm -rf demo-out site .pytest_cache .mypy_cache .ruff_cache

# The stamp is touched last: a cut installation is done again.
# Every file is held against its sha256; nothing is resolved, and the build takes the setuptools that is there.
HASHED := $(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement
HAS_TORCH := import importlib.metadata as m, sys; \
	raise SystemExit("torch" not in {d.name for d in m.distributions()} or m.version("torch").split("+")[0] != sys.argv[1])
CUDA_TORCH := import importlib.metadata as m; raise SystemExit(not any("cuda" in one for one in m.requires("torch")))
# Of several builds of one version pip takes the one whose hash the index tells, which for torch is CUDA's; so the
# choice comes first, as without hashes, and the check second.
TORCH := $(VENV)/torch-build
$(READY): pyproject.toml hashes.txt hashes-torch.txt hashes-cuda.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(HASHED) hashes.txt
	if ! $(BIN)/python -c '$(HAS_TORCH)' $$(sed -n 's/^torch==\([^ ]*\).*/\1/p' hashes-torch.txt); then \
		rm -rf $(TORCH) && $(BIN)/python -m pip download --quiet --no-deps --dest $(TORCH) --constraint constraints.txt torch && \
		$(HASHED) hashes-torch.txt --no-index --find-links $(TORCH) && rm -rf $(TORCH); fi
	if $(BIN)/python -c '$(CUDA_TORCH)'; then $(HASHED) hashes-cuda.txt; fi
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

# After a change of dependencies; takes uv from the path.
hashes:
	uv pip compile pyproject.toml --all-extras --constraint constraints.txt --generate-hashes --no-annotate \
		--no-header --quiet --python-version 3.11 | $(PYTHON) .ci/hashes.py

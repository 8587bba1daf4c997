# make demo    sets up .venv, fetches the LPIPS weights (once), edits a photograph into out/demo/
# make test    the same environment with the test tools: make lint, then pytest, a process with one thread per core
# make lint    what needs no running: ruff, its formatter, mypy, import-linter
# make docs    draws the picture of the imports anew, and builds the site into out/site/; a warning is an error
# make bench   a short look at the benchmarks, a few minutes: the seam of restored edits, spread on one crop, batches
# make clean   removes .venv, out/ and caches inside the repository; the LPIPS weights stay in the user's cache folder
#
# PYTHON names the interpreter that makes .venv: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint tests/constraints.txt

.PHONY: demo test lint docs bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/ctxrep-edit weights
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/ctxrep-edit weights
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

docs: $(VENV)/installed-test
	$(BIN)/python docs/site/architecture.py
	$(BIN)/python -m mkdocs build --strict -f docs/site/mkdocs.yml

bench: $(VENV)/installed-test
	$(BIN)/ctxrep-edit weights
	$(BIN)/python tests/benchmarks/seam.py --photos 1
	$(BIN)/ctxrep-edit bench spread --photos 1
	$(BIN)/python tests/benchmarks/batches.py -n 6 --batch 2 --batch 0

clean:
	rm -rf $(VENV) out dist .grimp_cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# The stamps are written last, so an installation that was cut off is taken up again.
$(VENV)/installed: pyproject.toml tests/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): torch and its libraries are several GB, the first time takes minutes."
	$(INSTALL) --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(INSTALL) --editable ".[test]"
	touch $@

# make demo    sets up .venv, fetches the LPIPS weights (once), edits a photograph into out/demo/
# make test    the same environment with the test tools: ruff, mypy, pytest
# make clean   removes .venv, out/ and caches inside the repository; the LPIPS weights stay in the user's cache folder
#
# PYTHON names the interpreter that makes .venv: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint tests/constraints.txt

.PHONY: demo test clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/ctxrep-edit weights
	$(BIN)/python examples/demo.py

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/ctxrep-edit weights
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamps are written last, so an installation that was cut off is taken up again.
$(VENV)/installed: pyproject.toml tests/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): torch and its libraries are several GB, the first time takes minutes."
	$(INSTALL) --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(INSTALL) --editable ".[test]"
	touch $@

# The commands of README.md. Each installs what it needs first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Every dependency, pinned with its hash; `make lock` renews it.
LOCK := requirements.lock
UV := $(BIN)/uv
export UV_PROJECT_ENVIRONMENT := $(VENV)

.PHONY: install lock lint test demo bench-gate clean

install: $(VENV)/.installed

$(UV):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-uv.lock

$(VENV)/.installed: $(LOCK) pyproject.toml sdks/python/pyproject.toml | $(UV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable sdks/python --editable .
	@touch $@

lock: | $(UV)
	$(UV) lock --quiet --upgrade
	$(UV) export --quiet --frozen --all-packages --no-emit-workspace --format requirements.txt --no-header --no-annotate --output-file $(LOCK)
	@awk '/^uv==/ { found = 1; print; next } found && /^[a-z]/ { exit } found' $(LOCK) > requirements-uv.lock

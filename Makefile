# The commands of README.md. Each installs what it needs first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Every dependency, pinned with its hash; `make lock` renews it.
LOCK := requirements.lock
UV := $(BIN)/uv
export UV_PROJECT_ENVIRONMENT := $(VENV)

.PHONY: install demo test lint temporal lock openapi proto bench bench-gate bench-anomalies bench-significance bench-analysis bench-decisions bench-watch bench-backtest bench-events bench-stop soak chaos-sdks fuzz

install: $(VENV)/.installed

$(UV):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-uv.lock

$(VENV)/.installed: $(LOCK) pyproject.toml sdks/python/pyproject.toml | $(UV)
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable sdks/python --editable .
	@touch $@

lock: | $(UV)
	$(UV) lock --quiet --upgrade
	$(UV) export --quiet --frozen --all-packages --no-emit-workspace --format requirements.txt --no-header --no-annotate --output-file $(LOCK)
	@awk '/^uv==/ { found = 1; print; next } found && /^[a-z]/ { exit } found' $(LOCK) > requirements-uv.lock

demo: install
	$(BIN)/llm-optimizer demo --data-dir .llm-optimizer

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
# The Python SDK goes back further: to 3.10 by its types, which is as far as mypy goes, to 3.9 by what it uses.
	$(BIN)/mypy --python-version 3.10 -p llm_auto_optimizer
	$(BIN)/vermin --quiet --no-tips --violations --target=3.9- sdks/python/src
	$(BIN)/lint-imports

# What breaks servers under load has the machine to itself.
test: lint temporal
	$(BIN)/pytest -n 2 --dist loadfile -m "not alone"
	$(BIN)/pytest -m alone tests/chaos

# The Temporal server that the embedded stack runs: found, fetched or, once, built.
temporal: install
	@$(BIN)/python -m infra.temporal_binary

# The API's description as it is committed.
openapi: install
	$(BIN)/llm-optimizer openapi > docs/openapi.json

# The Python of the protocol as it is committed, and what its clients rely on; refused where that would break.
proto: install
	$(BIN)/python -m grpc_tools.protoc --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy -Iproto \
		--python_out=api/grpc --mypy_out=api/grpc optimizer.proto
	$(BIN)/python -m tests.api.compatibility

bench-gate: install
	$(BIN)/python -m bench.gate

# Anomalies in generated series; how often noise is called a change or a trend; what all of the analysis costs on
# one core; a look of the watch over 200 services; 30 days of a service, hour by hour, through a policy.
bench-anomalies bench-significance bench-analysis bench-watch bench-backtest: install
	$(BIN)/python -m $(subst -,.,$@)

# What decisions are worth in worlds of known truth; the machine's BLAS threads only get in each other's way.
# DRAW=docs/images draws the pictures of docs/decisions.md from the same runs.
bench-decisions: install
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.decisions $(if $(DRAW),--draw $(DRAW))

# From a commit to its subscribers, and from an emergency stop to every replica.
bench-events bench-stop: install temporal
	$(BIN)/python -m $(subst -,.,$@)

# What applications and dashboards wait for, each figure beside its gate; BENCH="ingest analytics" for some,
# BENCH=sdks for what the three SDKs cost a call.
bench: install
	$(BIN)/python -m bench $(BENCH)

# Random faults under load, for SOAK_SECONDS (600), by SOAK_SEED (7).
soak: install
	SOAK_SECONDS=$${SOAK_SECONDS:-600} SOAK_SEED=$${SOAK_SEED:-7} $(BIN)/pytest --timeout 0 tests/chaos/soak.py

# Every way in while the API server is killed and started again, CONFORMANCE_KILLS (20) times by CONFORMANCE_SEED (7).
chaos-sdks: install temporal
	CONFORMANCE_KILLS=$${CONFORMANCE_KILLS:-20} $(BIN)/pytest tests/chaos/test_conformance.py

# Generated requests to the whole API, for FUZZ_SECONDS (600), by FUZZ_SEED (7).
fuzz: install temporal
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} FUZZ_SEED=$${FUZZ_SEED:-7} $(BIN)/pytest --timeout 0 tests/specification/test_schemathesis.py

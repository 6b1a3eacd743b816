# edgesteer: `make demo` to see it, `make test` to trust it. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=

.PHONY: help setup demo test chaos simulation check bench clean
help:
	@echo "make demo [ARGS='--for 60s']   the whole plane on a simulated fleet, live in this terminal"
	@echo "make test [ARGS='-k name']     the suite; prints which broker it ran against"
	@echo "make chaos [KILLS=30]          workers killed, brokers lost, a quarter of an hour long"
	@echo "make simulation [RUNS=2000]    workers' code under faults drawn from seeds, without a broker"
	@echo "make check                     ruff, mypy --strict, import contracts"
	@echo "make bench [ARGS=NAME]         benchmarks, one JSON object each"
	@echo "make setup                     everything into .venv (demo and test call it)"

setup: $(STAMP)
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "edgesteer needs Python 3.11 or later; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV) (once; about half a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/edgesteer demo $(ARGS)

test: setup
	@$(BIN)/python -m pytest $(ARGS)

chaos: setup
	@EDGESTEER_TEST_BROKER=kafka EDGESTEER_CHAOS_KILLS=$(or $(KILLS),30) $(BIN)/python -m pytest -s -k 'so_many_kills or burst' tests/integration/test_chaos.py tests/integration/test_limits.py $(ARGS)

simulation: setup
	@EDGESTEER_SIM_RUNS=$(or $(RUNS),2000) $(BIN)/python -m pytest -k toy tests/simulation/test_simulation.py $(ARGS)
	@EDGESTEER_SIM_RUNS=$$(( ($(or $(RUNS),2000) + 49) / 50 )) $(BIN)/python -m pytest -k real tests/simulation/test_simulation.py $(ARGS)

check: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup
	@for name in $(or $(ARGS),table step fleet failover ingest replay recovery snapshot assign); do $(BIN)/edgesteer bench $$name --json || exit 1; done

clean:
	rm -rf $(VENV) .edgesteer

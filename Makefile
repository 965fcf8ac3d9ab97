# The commands of the README. `make` alone lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || command -v python3)
BIN := .venv/bin
PYTHON310 ?= python3.10
PEER := .venv-tfx
TFJS := $(foreach part,core converter backend-cpu,@tensorflow/tfjs-$(part)@4.22.0)
# TensorFlow's import is 3.5 times as dear without bytecode; some shells forbid writing it.
export PYTHONDONTWRITEBYTECODE =
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help install demo test test-fast check bench bench-peer clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: .venv/installed ## everything into .venv, from constraints.txt

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 10), (3, 11)) and f"ctd needs Python 3.10 or 3.11 (ml-metadata and TFDV have no wheels for others); found {sys.version.split()[0]}. Set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv || { echo "No venv module: apt install python3-venv"; exit 1; }
	@echo "installing (about 4 GB; a few minutes the first time) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@# What asks a TensorFlow.js model before it ships; without Node only the tfjs targets are out of reach.
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --no-save --prefix .venv $(TFJS); else echo "no npm: tfjs targets need Node"; fi
	@touch $@

demo: install ## the product in a few minutes, in this terminal
	$(BIN)/python examples/demo.py

# Two halves side by side, for which two cores suffice; the half that is not shown is printed when it has ended.
test: install ## every test, the slow ones with real TensorFlow and real processes too
	@echo "tests/components runs beside the others; its output follows theirs"
	@mkdir -p .pytest_cache; \
	$(BIN)/python -m pytest -o cache_dir=.pytest_cache/components tests/components >.pytest_cache/components.log 2>&1 & half=$$!; \
	trap 'kill $$half; exit 130' INT TERM; \
	$(BIN)/python -m pytest tests/unit tests/flow tests/contract tests/e2e; others=$$?; \
	wait $$half; components=$$?; cat .pytest_cache/components.log; \
	test $$others -eq 0 -a $$components -eq 0

test-fast: install ## unit, flow and contract tests
	$(BIN)/python -m pytest tests/unit tests/flow tests/contract

check: install ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## measure ctd: a span's way to the server, planning, serving
	$(BIN)/python -m bench $(BENCH)

bench-peer: install $(PEER)/installed ## ctd and TFX 1.16 in turn on CTD_REAL_DATA; writes bench/RESULTS.md
	$(BIN)/python -m bench.side_by_side --peer $(PEER)/bin/python $(BENCH)

$(PEER)/installed: bench/peer/requirements.in bench/peer/constraints.txt
	@$(PYTHON310) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' || { echo "TFX 1.16 runs on Python 3.10. Set PYTHON310=/path/to/python3.10"; exit 1; }
	$(PYTHON310) -m venv $(PEER)
	@echo "installing TFX (about 4 GB; a few minutes the first time) ..."
	$(PEER)/bin/python -m pip install --quiet --disable-pip-version-check --constraint bench/peer/constraints.txt --requirement bench/peer/requirements.in
	@touch $@

clean: ## remove what the demo and the tests left
	rm -rf state demo $(foreach part,data realdata state serving mobile web hub,examples/taxi/$(part)) .pytest_cache .mypy_cache .ruff_cache

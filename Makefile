# `make demo` and `make test` install everything they need on a machine with Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 600
READY := $(VENV)/ready

# Without bytecode, every process would compile thousands of files.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo demo-depth demo-pose demo-panoptic test fuzz lint format types docs wheel

setup: $(READY)

$(READY): setup.py constraints.txt tools/install_detectron2.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "metaprompt_d2 needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python tools/install_detectron2.py
	touch $(READY)

demo: $(READY)
	$(BIN)/python tools/run_mini_demo.py

demo-depth: $(READY)
	$(BIN)/python tools/run_mini_demo.py --task depth

demo-pose: $(READY)
	$(BIN)/python tools/run_mini_demo.py --task pose

demo-panoptic: $(READY)
	$(BIN)/python tools/run_mini_demo.py --task panoptic

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --durations 40

# Fuzz the reader of checkpoints; what was found stays in .fuzz.
fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	mkdir -p .fuzz
	$(BIN)/python tests/robustness/fuzz_checkpoints.py -artifact_prefix=.fuzz/ \
		-max_total_time=$(FUZZ_SECONDS) .fuzz/corpus

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/make_config.py

wheel: $(READY)
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

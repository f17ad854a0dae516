# make demo: install and show what this is.  make test: install and run every test.

PYTHON ?= python3
BIN = .venv/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
SETTINGS = pyproject.toml constraints.txt Makefile

.PHONY: demo test soak wheel check docs bench clean

demo: .venv/demo
	$(BIN)/minimand certify gradient_descent heavy_ball nesterov_y --depth 3
	$(BIN)/minimand compare --data digits --algorithm gradient_descent heavy_ball nesterov_y --run runs/demo

# A worker has a core, and so a thread: more of them wait for each other in all that the tests start.
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The full products of the registries, then kills, full disks and damaged files: about an hour on two cores.
soak: .venv/dev
	$(INSTALL) -e '.[cluster]'
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m soak
	$(BIN)/python tests/soak/soak.py

# Wheel and sdist, and the tests beside what was built from the sdist, with core dependencies only;
# PYTHON=python3.13 takes another version.
wheel: $(SETTINGS)
	rm -rf dist
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	dist/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt hatchling hypothesis pytest
	dist/venv/bin/hatchling build -d dist
	dist/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.tar.gz
	dist/venv/bin/pytest

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: .venv/dev
	$(BIN)/mkdocs serve

bench: .venv/dev
	$(BIN)/python benchmarks/skeleton.py
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/record.py
	$(BIN)/python benchmarks/allocation.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/rewire.py
	$(BIN)/python benchmarks/theory.py
	$(BIN)/python benchmarks/diagnose.py
	$(BIN)/python benchmarks/layerwise.py
	$(BIN)/python benchmarks/decoupled.py
	$(BIN)/python benchmarks/packed_layers.py
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps bnn-lab==1.0.0
	$(BIN)/python benchmarks/packed.py
	$(BIN)/python benchmarks/packed.py --threads 2
	$(BIN)/python benchmarks/target_propagation.py
	$(BIN)/pip install --quiet --disable-pip-version-check lsuv==0.3.0
	$(BIN)/python benchmarks/initialization.py

clean:
	rm -rf .venv dist site runs

.venv/pip: $(SETTINGS)
	$(PYTHON) -m venv .venv
	touch $@

# torch first and alone: what depends on it then takes the build that is there.
.venv/demo: .venv/pip
	$(INSTALL) torch
	$(INSTALL) -e '.[plots]'
	touch $@

.venv/dev: .venv/pip
	$(INSTALL) torch
	$(INSTALL) -e '.[dev,docs]'
	touch $@

# Every target makes .venv and installs by itself; nothing needs to be there but Python 3.11 (PyBullet, which the
# simulated worlds need, has no wheels for later ones).
PYTHON ?= python3
BIN := .venv/bin
# Test workers share the cores: a thread each, and none that spins while it waits.
ONE_EACH := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.PHONY: demo test test-slow lint format bench clean

demo: .venv/.plain
	$(BIN)/cog demo --root cog-demo

test: lint
	$(ONE_EACH) $(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal --cov --cov-report=term --cov-fail-under=85

test-slow: .venv/.dev
	$(BIN)/pytest -m slow

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.world
	$(BIN)/python -m bench.stream
	$(BIN)/python -m bench.learners
	$(BIN)/python -m bench.catalog
	$(BIN)/python -m bench.perception
	$(BIN)/python -m bench.video

clean:
	rm -rf .venv cog-demo build *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cogdata needs Python 3.11 or later, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv

.venv/.plain: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ .venv/.plain

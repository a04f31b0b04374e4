# Every target first makes .venv with the versions of requirements.lock; python3 (>= 3.10) and make are all it needs.
#
#   demo    encode and decode a recording, print a table, draw demo/speech.png
#   test    the tests, a process a core; kernels run in Triton's interpreter where there is no GPU
#   test-all  the slow ones too: every kernel compiled for every GPU target
#   lint    ruff and mypy; format applies what ruff asks for
#   bench   time ops and codec on this CPU, within 15 minutes; results go to bench/results/
#   bench-gpu  check, then time everything on the GPU, within 8 minutes; takes the system's torch where there is no .venv
#   report  docs/performance.md from bench/results/ and bench/counted/
#   static  compile every kernel for GPU targets and write bench/static/*.csv
#   counted  run every kernel in the emulator, count, predict times and write bench/counted/*.csv; after static

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint format bench bench-gpu report static counted clean

demo: .venv/installed
	$(BIN)/silk demo --force

test: .venv/installed
	$(BIN)/python -m pytest -n auto

test-all: test
	$(BIN)/python -m pytest -n auto -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy silk_fast kernels

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed
	$(BIN)/python -m bench --device cpu

bench-gpu:
	$(if $(wildcard .venv/installed),$(BIN)/python,$(PYTHON)) -m bench

report: .venv/installed
	$(BIN)/python -m bench.report bench/results/*.json

static: .venv/installed
	$(BIN)/python -m bench.static

counted: .venv/installed
	$(BIN)/python -m bench.counted

clean:
	rm -rf .venv build *.egg-info

.venv/installed: setup.py pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "silk_fast needs Python 3.10 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock pip setuptools
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint requirements.lock --no-build-isolation --editable '.[test]'
	@$(BIN)/python -m pip install --quiet --constraint requirements.lock cython && \
	  $(BIN)/python -m pip install --quiet --constraint requirements.lock --no-build-isolation pesq || \
	  echo "pesq was not installed (it needs a C compiler): silk eval leaves PESQ out, and its test is skipped" >&2
	@: > $@

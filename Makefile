# Every target first makes .venv with the versions of requirements.lock; python3 (>= 3.10) and make are all it needs.
#
#   demo    encode and decode a recording, print a table, draw demo/speech.png
#   test    the tests, a process a core; kernels run in Triton's interpreter where there is no GPU
#   test-all  the slow ones too: every kernel compiled for every GPU target
#   soak    what only much of shows: requests, kills, a lost worker of Ray, a day of silence; 40 minutes, or less with
#           make soak SOAK_REQUESTS=2000 SOAK_KILLS=5 SOAK_HOURS=1
#   test-compiled  kernels compiled for a GPU and executed by an emulator of PTX, which needs a C++ compiler:
#                  make test-compiled ARCH=90, or ARCH="80 86 89 90 120" for all targets
#   test-oldest  codecs of other libraries in the oldest versions that are accelerated, which .venv/oldest gets, and
#                  the packages of DAC's and EnCodec's authors
#   lint    ruff and mypy; format applies what ruff asks for
#   bench   time ops and codec on this CPU, within 15 minutes; results go to bench/results/
#   bench-gpu  check, then time everything on the GPU, within 8 minutes; takes the system's torch where there is no .venv
#   report  docs/performance.md from bench/results/ and bench/counted/, docs/scale.md from bench/results/
#   static  compile every kernel for GPU targets and write bench/static/*.csv
#   counted  run every kernel in the emulator, count, predict times and write bench/counted/*.csv; after static

PYTHON ?= python3
BIN := .venv/bin
# Most modules are never imported, and to compile them all is most of an installation.
INSTALL := pip install --quiet --no-compile
ARCH := 86
# Kernels, and the codec that they accelerate: all tests that launch any.
COMPILED := tests/ptx/kernels tests/kernels $(patsubst %,tests/acceleration/test_%.py,results autocast compiling folding)

# Of codecs, in older versions of their libraries: swapping, quantisers, codes and audio.
OLDEST := $(patsubst %,tests/codecs/test_%,swapping.py quantizers.py original_packages.py \
  results.py::test_codes_are_equal_and_audio_is_within_a_ten_thousandth_of_its_peak)

.PHONY: demo test test-all soak test-compiled test-oldest lint format bench bench-gpu report static counted clean

demo: .venv/installed
	$(BIN)/silk demo --force

test: .venv/installed
	$(BIN)/python -m pytest -n auto --dist worksteal

test-all: test
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

soak: .venv/installed
	$(BIN)/python -m pytest -rPs -m soak tests/runtime

test-compiled: $(ARCH:%=test-compiled-%)

test-compiled-%: .venv/installed
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -n auto --dist worksteal -m '' --emulate $* $(COMPILED)

test-oldest: .venv/oldest/installed
	.venv/oldest/bin/python -m pytest -n auto --dist worksteal $(OLDEST)

# What is installed there comes before what .venv has.
.venv/oldest/installed: .venv/installed Makefile
	$(BIN)/python -m venv --without-pip .venv/oldest
	$(BIN)/python -c 'import site, pathlib; [path] = pathlib.Path(".venv/oldest").glob("lib/*/site-packages"); \
	  (path / "base.pth").write_text(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")'
	.venv/oldest/bin/python -m $(INSTALL) --no-warn-conflicts transformers==5.0.0 diffusers==0.35.0 snac==1.2.0
	.venv/oldest/bin/python -m $(INSTALL) --no-deps descript-audio-codec==1.0.0 encodec==0.1.1
	@: > $@

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
	$(BIN)/python -m bench.scale bench/results/*.json

static: .venv/installed
	$(BIN)/python -m bench.static

counted: .venv/installed
	$(BIN)/python -m bench.counted

clean:
	rm -rf .venv build *.egg-info

.venv/installed: setup.py pyproject.toml requirements.lock $(wildcard silk_fast/cpu/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "silk_fast needs Python 3.10 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m $(INSTALL) --constraint requirements.lock pip setuptools
	PYTHONWARNINGS=ignore $(BIN)/python -m $(INSTALL) --constraint requirements.lock --no-build-isolation --editable '.[test]'
	@$(BIN)/python -c 'from silk_fast.cpu.library import why_not; why_not() and print(why_not())' >&2
	@$(BIN)/python -m $(INSTALL) --constraint requirements.lock cython && \
	  $(BIN)/python -m $(INSTALL) --constraint requirements.lock --no-build-isolation pesq || \
	  echo "pesq was not installed (it needs a C compiler): silk eval leaves PESQ out, and its test is skipped" >&2
	@: > $@

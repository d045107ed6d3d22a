# Python 3.11.5 or newer and make are all that these targets need; the rest comes from PyPI and npm.
#
#   make study [CORPUS=auto] [ROOT=folder] [PROFILE=cpu]   run the notebooks, then build the book
#   make evidence [CORPUS=...] [ROOT=...]   every claim in full, into results/: hours; it goes on where it was
#   make test      the quick tests: some minutes
#   make test-all  all tests: with a small run of every notebook, the book with warnings as errors, browsers, and kills
#   make book      the book again, from the notebooks last run
#   make serve     the book at http://localhost:8000
#   make strip     notebooks without outputs, as they are committed
#   make lock      a new requirements.lock from pyproject.toml
#   make clean     everything built; the environment stays

PYTHON := python3
CORPUS := auto
ROOT :=
PROFILE := cpu
PORT := 8000
TORCH := torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The shell reads these from its environment, so a path may hold spaces and quotes.
export CORPUS ROOT PROFILE

.PHONY: study evidence test test-all book serve strip lock clean

study: $(READY)
	$(BIN)/vowelflow study --corpus "$$CORPUS" --profile "$$PROFILE" $${ROOT:+--root "$$ROOT"}

evidence: $(READY)
	$(BIN)/vowelflow evidence --corpus "$$CORPUS" $${ROOT:+--root "$$ROOT"}

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not long"

test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

book: $(READY)
	$(BIN)/vowelflow book

serve:
	@test -f build/html/index.html || { echo "no book yet: run make study first" >&2; exit 1; }
	$(PYTHON) -m http.server $(PORT) --bind 127.0.0.1 --directory build/html

strip: $(READY)
	$(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill metadata.language_info metadata.widgets metadata.vowelflow cell.metadata.papermill" notebooks/*.ipynb

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11, 5) or sys.exit("vowelflow needs Python 3.11.5 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'
	@echo "installing into $(VENV): a few minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Every file of every package by its hash, for all systems and Pythons, but for torch: its builds and what they bring of CUDA
# differ by machine and are gigabytes, and where a wheel for the CPU alone is at hand pip must be free to take it.
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	echo "$(TORCH)" > build/lock/torch.txt
	build/lock/bin/uv pip compile pyproject.toml --extra book --extra export --extra dev --quiet --upgrade --universal \
	  --python-version 3.11.5 --generate-hashes --no-annotate --no-header --no-emit-package torch -c build/lock/torch.txt -o build/lock/lock.txt
	echo "# Made by \`make lock\`: one tested version of all that pyproject.toml and its extras book, export and dev need, but torch." > requirements.lock
	cat build/lock/lock.txt >> requirements.lock
	rm -rf build/lock

clean:
	rm -rf build

# Every target sets itself up: with Python 3.10 to 3.13 and git, `make repro` is all it takes.
PYTHON ?= python3
REV ?= main
SECONDS ?= 60
PUBLISHED := $(patsubst results/%/package/,%,$(dir $(wildcard results/*/package/service.json)))
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export DVC_NO_ANALYTICS := 1
export BENTOML_DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

# PyTorch's own index has a build for every machine, with CUDA or without; CPU=1 asks for the one without. What CUDA's
# build needs comes with it, so it is left out of the lock. Where the index can't be reached, PyPI's build has CUDA.
TORCH_INDEX := https://download.pytorch.org/whl/cpu/torch/
CUDA := ^(nvidia-[^m]|cuda-|triton==)
REACHED := import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)

$(VENV)/bin/uv: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "error: Python 3.10 to 3.13 is needed: make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --disable-pip-version-check $$(grep ^uv== requirements.txt)
	touch $@

$(READY): requirements.lock | $(VENV)/bin/uv
	@if python -c '$(REACHED)' $(TORCH_INDEX) 2> /dev/null; then \
		grep -vE '$(CUDA)' requirements.lock | uv pip install --torch-backend=$(if $(CPU),cpu,auto) -r -; \
	elif [ -n '$(CPU)' ]; then \
		echo "error: CPU=1 needs $(TORCH_INDEX), which can't be reached" >&2; exit 2; \
	else \
		echo "PyTorch's index can't be reached: installing PyPI's build, which has CUDA"; \
		uv pip install -r requirements.lock; \
	fi
	touch $@

.PHONY: setup
setup: $(READY)  ## create .venv with the pinned packages (CPU=1: without CUDA even where there is a GPU)

.PHONY: repro
repro: $(READY)  ## run the pipeline: train, compare, explain, benchmark and package
	@rm -f artifacts/seconds.csv
	dvc repro
	-test ! -f artifacts/seconds.csv || python -m mri.tracking.sync  # nothing to copy where no stage ran
	@python -m mri.commands.overview

.PHONY: explore
explore: $(READY)  ## show what is in the chosen data: artifacts/notebooks/exploratory.html
	dvc repro split
	python -m mri.commands.notebooks exploratory

.PHONY: notebooks
notebooks: repro  ## run all notebooks: data, training, explanations: artifacts/notebooks
	python -m mri.commands.notebooks exploratory training explainable

.PHONY: serve
serve: $(READY)  ## serve the winner on http://localhost:3000, or a published network: make serve MODEL=kaggle
	@test -z "$(MODEL)" || test -f results/$(MODEL)/package/service.json || \
		{ echo "error: results/$(MODEL) has no package (published: $(or $(PUBLISHED),none))" >&2; exit 2; }
	$(if $(MODEL),MRI_SERVICE=results/$(MODEL)/package) bentoml serve

.PHONY: test
test: $(READY)  ## lint, check types and imports, run the quick tests and the whole pipeline at thumbnail size
	ruff check
	ruff format --check
	mypy
	lint-imports
	pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

.PHONY: test-all
test-all: test  ## run the slow tests too
	pytest -q -m slow

.PHONY: fuzz
fuzz: $(READY)  ## look for files and requests that the service can't deal with: make fuzz SECONDS=60 (each)
	python -m tests.fuzz --seconds $(SECONDS)

.PHONY: browser
browser:  ## install the browser that the tests of the pages use (Debian and its like, as root)
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium

.PHONY: format
format: $(READY)  ## put the code into its standard form
	ruff check --fix
	ruff format

.PHONY: params
params: $(READY)  ## compose params.yaml from conf/
	python -m mri.commands.compose

.PHONY: sync
sync: $(READY)  ## copy tracked runs to the server of MLFLOW_TRACKING_URI or DAGSHUB_REPO
	python -m mri.tracking.sync

.PHONY: diff
diff: $(READY)  ## compare this run with another commit's: make diff REV=main
	python -m mri.commands.diff $(REV)

.PHONY: publish
publish: $(READY)  ## copy this run's results to results/$(NAME): make publish NAME=kaggle [PACKAGE=yes]
	python -m mri.commands.publish $(NAME) $(if $(PACKAGE),--package)

.PHONY: lock
lock: $(READY)  ## pin what requirements.txt pulls in
	uv pip compile --quiet --universal --python-version 3.10 --python-preference only-system \
		--no-header --no-annotate --no-emit-index-url --upgrade requirements.txt -o requirements.lock

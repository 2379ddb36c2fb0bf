# `make demo` and `make test` work on a clean clone: each target makes .venv by itself when it is
# missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Python compiles the few modules that are used; all 39,000 would take minutes. sam2 ships as source
# and needs torch and setuptools to build; taking those from .venv keeps pip from fetching torch
# twice.
QUIETLY := --disable-pip-version-check install -q --no-compile
INSTALL := $(BIN)/python -m pip $(QUIETLY)

# Tests in three processes, each with models on one thread, which keep two processors busy, as many
# tests wait for Label Studio or a browser; `make test JOBS=6` takes six. Which tests stay together,
# tests/conftest.py says.
JOBS ?= 3
# Memory that torch gives back is kept for its next tensor: mapping it anew costs an eighth of the
# time.
PYTEST = OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648 \
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder

# Label Studio in an environment of its own, for `make studio` and the end-to-end tests.
STUDIO := .venv-studio
STUDIO_STAMP := $(STUDIO)/.installed

.PHONY: demo studio test slow check bench clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(BIN)/yolosam2 demo

studio: $(STAMP) $(STUDIO_STAMP)
	$(BIN)/python -m backend.demo.studio --label-studio $(STUDIO)/bin/label-studio --data studio-data

test: $(STAMP) $(STUDIO_STAMP)
	$(PYTEST) -m "not slow"

# The long tests: thousands of files and calls, dozens of kills, a second installation. `.ci/run`
# runs them as well.
slow: $(STAMP) $(STUDIO_STAMP)
	$(PYTEST) -m slow --durations=20

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/yolosam2 bench

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -c constraints.txt pip setuptools wheel
	$(INSTALL) -c constraints.txt torch torchvision numpy
	SAM2_BUILD_CUDA=0 $(INSTALL) -c constraints.txt --no-build-isolation sam2
	$(INSTALL) -c constraints.txt -e ".[dev]"
	# An oracle of the tests. It asks for a newer numpy than OpenCV takes, and runs on this one.
	$(INSTALL) -c constraints.txt --no-deps trackeval
	$(BIN)/python -m backend.core.kernels.warm
	touch $@

$(STUDIO_STAMP): docker/label-studio.txt
	test -x $(STUDIO)/bin/python || $(PYTHON) -m venv $(STUDIO)
	$(STUDIO)/bin/python -m pip $(QUIETLY) -r docker/label-studio.txt
	touch $@

clean:
	rm -rf $(VENV) $(STUDIO) .venv-label-studio-ml studio-out demo-out build *.egg-info

# Everything a reader types. `make help` lists it.
PROFILE ?= laptop
SEED ?=
JOBS ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?= requirements/torch-index.txt

# The platform is the profile's: its own, or that of the profile it extends.
ifndef PLATFORM
PLATFORM := $(shell name=$(PROFILE); for _ in 1 2 3 4 5; do \
  found=$$(sed -n 's/^  platform: *\([a-z]*\).*/\1/p' params/$$name.yaml 2> /dev/null); \
  if [ "$$found" ]; then break; fi; \
  name=$$(sed -n 's/^extends: *\([^ ]*\).*/\1/p' params/$$name.yaml 2> /dev/null); done; echo $${found:-cpu})
endif
PINS := requirements/$(PLATFORM).txt

# An environment a platform, since the pins differ: conda's where it is active, or one made here.
CONDA_cpu := companion
CONDA_gpu := companion-gpu
VENV_cpu := .venv
VENV_gpu := .venv-gpu
ifeq ($(CONDA_DEFAULT_ENV),$(CONDA_$(PLATFORM)))
BIN := $(CONDA_PREFIX)/bin
READY :=
else
VENV ?= $(VENV_$(PLATFORM))
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(PLATFORM)
endif
SEED_OPTION := $(if $(SEED),--seed $(SEED))
JOBS_OPTION := $(if $(JOBS),--jobs $(JOBS))

.DEFAULT_GOAL := help
.PHONY: help setup bin reproduce compare check test test-slow test-gpu-pins lab plan doctor figures verify publish bench base lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PROFILE=laptop|smoke|qwen3-4b|…  SEED=n  JOBS=n (of notebooks 05 to 10 at a time)"

setup: $(READY)  ## the virtual environment with the pinned packages of PROFILE's platform
	@echo "the environment for $(PLATFORM) is ready: . $(BIN)/activate"

bin:  ## where the environment's programs are
	@echo $(BIN)

# torch's CPU build may need an index of its own; asked for alone, so that an index out of reach
# costs its retries once. The lists are complete, hence --no-deps (see cpu-overrides.txt), and every
# file that is installed has one of their hashes (what builds a source archive has none). Compiled once
# here: where Python may not write bytecode, each of verl's processes would compile verl for itself.
$(READY): $(PINS) $(TORCH_INDEX) pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v != (3, 11) and \
	  "Python is %d.%d and must be 3.11; name one with: make setup PYTHON=python3.11" % v)'
	@for other in $(filter-out $@,$(wildcard $(VENV)/.ready-*)); do \
	  echo "$(VENV) holds the packages for $${other##*-}, not for $(PLATFORM): name another folder in VENV"; exit 1; done
	$(PYTHON) -m venv $(VENV)
	awk '/^torch==/,!/\\$$/' $(PINS) > $(VENV)/torch.txt
	$(BIN)/pip install -q --no-deps --require-hashes -r $(VENV)/torch.txt $(if $(filter cpu,$(PLATFORM)),-r $(TORCH_INDEX))
	awk '/^uv==/,!/\\$$/' $(PINS) > $(VENV)/uv.txt
	$(BIN)/pip install -q --no-deps --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip install -q --compile-bytecode --no-deps --require-hashes --python $(BIN)/python -r $(PINS)
	$(BIN)/uv pip install -q --no-deps --python $(BIN)/python -e .
	$(BIN)/python -m compileall -q src
	@touch $@

reproduce: $(READY)  ## the study end to end: train, evaluate, tables, figures, one HTML page
	$(BIN)/companion reproduce --profile $(PROFILE) $(SEED_OPTION) $(JOBS_OPTION)

test: $(READY)  ## unit, property and parity tests, then every notebook on `smoke`, then nbval
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test-slow: $(READY)  ## whole ways through the frameworks, real shapes, kills at random moments; hours
	$(BIN)/python -m pytest -m slow

test-gpu-pins:  ## under the pins for GPUs, in their environment, what needs no GPU; writes docs/gpu-pins.log
	$(MAKE) PLATFORM=gpu setup
	CUDA_VISIBLE_DEVICES= $$($(MAKE) -s PLATFORM=gpu bin)/python tests/gpu_pins.py

check: $(READY)  ## lint, format, types, and the layers of src/companion; seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: $(READY)  ## the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

plan: $(READY)  ## what PROFILE takes: memory, tokens, hours, disk, and the commands; starts nothing
	$(BIN)/companion plan --profile $(PROFILE)

doctor: $(READY)  ## does this machine have what PROFILE needs?
	$(BIN)/companion doctor --profile $(PROFILE)

compare: $(READY)  ## your finished seed beside the published ones and the paper
	$(BIN)/companion compare --profile $(PROFILE) $(SEED_OPTION)

figures: $(READY)  ## redraw tables and figures from the committed measurements (no training)
	$(BIN)/companion figures --profile $(PROFILE)

verify: $(READY)  ## check every hash of what is published, and draw tables and figures again
	$(BIN)/companion verify --profile $(PROFILE)

publish: $(READY)  ## copy what this machine measured to results/
	$(BIN)/companion publish --profile $(PROFILE) $(SEED_OPTION)

# Ratios are of turns, but an idle machine says more of them; an hour.
bench: $(READY)  ## every benchmark, one after the other; README's table
	OMP_NUM_THREADS=2 $(BIN)/python benchmarks/objective_speed.py
	for b in verl_vs_bare verl_vs_trl arm_overhead rollouts_speed grading_speed cka_speed; do \
	  $(BIN)/python benchmarks/$$b.py || exit 1; done
	$(BIN)/python benchmarks/summary.py

base: $(READY)  ## make the shipped base checkpoint again
	$(BIN)/python -m companion.tasks.base --out runs/countdown-base

# Where torch's CPU build comes from: PIP_FIND_LINKS, or UV_EXTRA_INDEX_URL with the index that
# torch-index.txt names. Its wheel for Linux on x86-64 is the same file in both.
lock: $(READY)  ## compile requirements/*.in into the pinned lists, with hashes
	cd requirements && for p in cpu gpu; do $(abspath $(BIN))/uv pip compile -q --generate-hashes $$p.in -o $$p.txt \
	  --override overrides.txt $$([ $$p = cpu ] && echo --override cpu-overrides.txt) \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --find-links $${PIP_FIND_LINKS:-.} \
	  --no-emit-find-links --no-header --no-annotate; done

clean:  ## remove the virtual environments; what was run stays in runs/
	rm -rf $(VENV_cpu) $(VENV_gpu)

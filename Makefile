# make replicate   set up, run everything: tokens, measurement, figures, tables, claims, paper
# make replicate-smollm2  the same with a pretrained model, of a wheel (config/smollm2.yaml); compares with what is kept
# make estimate    say about how long a run takes (CONFIG=config/demo.yaml)
# make verify      check a finished run against its record, and recompute a sample of it (RUN=demo; docs/artifact.md)
# make archive     pack a finished run with its record and code into results/<run>.tar.gz (RUN=demo)
# make test        set up, run the tests and the linters: minutes
# make test-slow   set up, run the tests that run the workflow or take long otherwise
# make cluster     add what Snakemake needs to submit to Slurm (docs/cluster.md)
# make test-slurm  set up, run the workflow through a Slurm of one node (root, on Debian)
# make test-conda  set up, run each rule in the conda environment it names, made by a stand-in for conda (docs/conda.md)
# make gpu-check   set up with the GPU build of torch, check the measurement on a GPU and time it (docs/benchmark/gpu.md)
# make rulegraph   draw docs/rules.svg anew (needs Graphviz)
# make lock        pin all dependencies anew (needs uv)
#
# PYTHON=python3.12 chooses the interpreter (3.11 to 3.13), TORCH=cuda the GPU build of torch.

PYTHON ?= python3
TORCH ?= cpu
RUN_FLAGS ?=
TEST_FLAGS ?=
RUN ?= demo
CONFIG ?= config/demo.yaml

BIN := .venv/bin
TORCH_PIN := $(shell cat envs/torch.txt)
SLURM := $(shell sed -n 's/^cluster = \["\(.*\)"\]/\1/p' pyproject.toml)
CPU_INDEX := https://download.pytorch.org/whl/cpu
# Packages that depend on the machine: they come with torch.
UNLOCKED := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

.PHONY: replicate replicate-smollm2 estimate verify archive test test-slow cluster test-slurm test-conda gpu-check rulegraph lock
.DELETE_ON_ERROR:

replicate: .venv/installed-$(TORCH)
	$(BIN)/snakemake --cores all $(RUN_FLAGS)

replicate-smollm2: override RUN_FLAGS += --configfile config/smollm2.yaml -- compare_study
replicate-smollm2: replicate

estimate: .venv/installed-$(TORCH)
	$(BIN)/snakemake --cores all --quiet rules --configfile $(CONFIG) -- estimate

verify: .venv/installed-$(TORCH)
	$(BIN)/python workflow/scripts/verify_run.py --run results/$(RUN)

archive: .venv/installed-$(TORCH)
	$(BIN)/python workflow/scripts/archive_run.py --run results/$(RUN) --output results/$(RUN).tar.gz

test: .venv/installed-$(TORCH)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto $(TEST_FLAGS)
	$(BIN)/snakemake --lint
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test-slow: .venv/installed-$(TORCH)
	$(BIN)/python -m pytest -m slow --numprocesses auto --dist loadfile

cluster: .venv/installed-$(TORCH)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r envs/cluster.lock

test-slurm: cluster
	trap 'tests/slurm/one_node_slurm.sh stop' EXIT; \
		tests/slurm/one_node_slurm.sh start && $(BIN)/python -m pytest tests/slurm

test-conda: .venv/installed-$(TORCH)
	TORCH_INDEX=$(CPU_INDEX) PATH="$(CURDIR)/tests/conda/standin/bin:$$PATH" $(BIN)/python -m pytest tests/conda

gpu-check:
	$(MAKE) TORCH=cuda .venv/installed-cuda
	$(BIN)/python -m selfrepair.benchmark.gpu_check docs/benchmark

rulegraph: .venv/installed-$(TORCH)
	bash -o pipefail -c '$(BIN)/snakemake --cores 1 --rulegraph dot -- all results/demo/paper/paper.pdf \
		| $(BIN)/python workflow/lib/rule_graph.py | dot -Tsvg -o docs/rules.svg'

.venv/installed-$(TORCH): envs/requirements.lock envs/torch.txt pyproject.toml
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f'Python {v} is not supported; choose 3.11 to 3.13 with PYTHON=')"
	rm -rf .venv
	$(PYTHON) -m venv .venv
ifeq ($(TORCH),cuda)
	$(BIN)/pip install --quiet "$(TORCH_PIN)"
else ifeq ($(TORCH),cpu)
	$(BIN)/pip install --quiet --no-deps --retries 1 --extra-index-url $(CPU_INDEX) "$(TORCH_PIN)"
	@if $(BIN)/pip show --files torch | grep -q "libtorch_cuda"; then echo "$(CPU_INDEX) is out of reach:" \
		"taking the ordinary build of torch, with its GPU libraries"; $(BIN)/pip install --quiet "$(TORCH_PIN)"; fi
else
	$(error TORCH is cpu or cuda, not $(TORCH))
endif
	$(BIN)/pip install --quiet --no-deps --require-hashes -r envs/requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

lock:
	uv pip compile --quiet pyproject.toml --extra workflow --extra test --constraint envs/torch.txt --universal \
		--python-version 3.11 --generate-hashes --no-annotate --no-header $(UNLOCKED:%=--no-emit-package %) \
		--output-file envs/requirements.lock
	echo "$(SLURM)" | uv pip compile --quiet - --constraint envs/requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --output-file envs/cluster.lock
	$(MAKE) .venv/installed-$(TORCH)
	$(BIN)/python workflow/lib/pin_environments.py

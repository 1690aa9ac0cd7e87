# One target per stage, in the order in which they run. Each is one plain command: `make -n TARGET` shows it.

RECIPE ?= recipes/llama3-8b-wrpo.yaml
SOURCE ?= all
ARM    ?= wrpo
MODEL  ?= all
SEEDS  ?= 1 2 3 4 5
JOBS   ?= 1
TEST_JOBS ?= 2
TABLE  ?=
FOLDER ?=
SET    ?=
ARGS   ?=

SHELL  := /usr/bin/env bash
PY     := .venv/bin/python
STAGE   = --recipe $(RECIPE) $(SET) $(ARGS)

.DEFAULT_GOAL := help
.SILENT:
.PHONY: help setup demo demo-full demo-arms real test check coverage audit gpu-check docs prompts sample score build sft \
	logprobs wrpo eval report plan status doctor run peek reference clean

help:
	echo 'make TARGET [RECIPE=file.yaml] [SET="key=value ..."] [SOURCE=name] [ARM=name] [ARGS="--flag ..."]'
	echo
	grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /|/' \
		| while IFS='|' read -r target text; do printf '  %-10s %s\n' "$$target" "$$text"; done

setup: ## make .venv with the tested versions; instant when nothing changed (ENV=cpu|cuda)
	tools/setup

demo: setup ## fuse three tiny models into a fourth, from nothing, and print the report
	$(PY) -m tiny_world.demo --seeds 1 $(if $(SET),--set $(SET))

real: setup ## the same with a real model of 135 M parameters: all of it on a GPU, a slice on CPUs
	$(PY) -m real_world.demo $(ARGS) $(if $(SET),--set $(SET))

demo-full: setup ## the same with five seeds: means and spread (SEEDS="1 2 3")
	$(PY) -m tiny_world.demo --seeds $(SEEDS) $(if $(SET),--set $(SET))

demo-arms: setup ## takes half an hour: everything that people would use instead, on the same five worlds
	$(PY) -m tiny_world.demo --recipe demo-arms --seeds $(SEEDS) $(if $(SET),--set $(SET))

test: setup ## the whole test suite; needs no GPU and no network (ARGS="-k recipe")
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false \
		$(PY) -m pytest -q -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## format, lint, types, links of the documentation
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet

coverage: setup ## the test suite with the share of lines that it runs
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false \
		$(PY) -m pytest -q -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder \
		--cov=wrpo --cov=data_construction --cov=eval --cov-report=term:skip-covered $(ARGS)

audit: setup ## known weaknesses of the pinned packages (SECURITY.md); needs the network
	$(PY) -m pip install --quiet pip-audit
	$(PY) -m pip_audit --strict --requirement requirements/cuda.txt --no-deps --disable-pip \
		--ignore-vuln CVE-2024-35515

gpu-check: setup ## what a GPU has to show, in 8 minutes: exactness, speed, memory (ARGS="--only exactness")
	$(PY) -m benchmarks.gpu $(ARGS)

docs: setup ## the documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

prompts: setup ## 1  collect, normalise, de-duplicate and split the prompts
	$(PY) -m data_construction.prompts $(STAGE)

sample: setup ## 2  draw answers (SOURCE=name; SOURCE=target after sft)
	$(PY) -m data_construction.sample --source $(SOURCE) $(STAGE)

score: setup ## 3  score answers (SOURCE=name; SOURCE=target after sft)
	$(PY) -m data_construction.score --source $(SOURCE) $(STAGE)

build: setup ## 4  build every table whose inputs are there (TABLE=sft, triples or pairs: that one)
	$(PY) -m data_construction.build $(if $(TABLE),--table $(TABLE)) $(STAGE)

sft: setup ## 5  fine-tune the target on the best source answers
	$(PY) -m wrpo.train_sft $(STAGE)

logprobs: setup ## 6  log-probs of the training rows under the SFT model and, if needed, the sources
	$(PY) -m data_construction.logprobs $(STAGE)

wrpo: setup ## 7  preference training (ARM=name trains another arm of the recipe)
	$(PY) -m wrpo.train --arm $(ARM) $(STAGE)

eval: setup ## 8  lm-eval runs (MODEL=all)
	$(PY) -m eval.run --model $(MODEL) $(STAGE)

report: setup ## 9  the table of all models
	$(PY) -m eval.report $(STAGE)

plan: setup ## the tree of stages of RECIPE: state, command, tokens, GPU hours, dollars, memory
	$(PY) -m wrpo plan $(STAGE)

status: setup ## how far each stage is (ARGS=--watch: live)
	$(PY) -m wrpo status $(STAGE)

doctor: setup ## look for what would stop a run of RECIPE (ARGS=--offline)
	$(PY) -m wrpo doctor $(STAGE)

run: setup ## every missing stage of RECIPE (JOBS=2: two at once)
	$(PY) -m wrpo run --jobs $(JOBS) $(STAGE)

peek: setup ## show rows of any table (FOLDER=runs/demo/build/triples)
	$(PY) -m data_construction.peek $(FOLDER) $(ARGS)

reference: setup ## write docs/recipe.md and docs/files.md anew from the code
	$(PY) -m wrpo reference > docs/recipe.md
	$(PY) tools/file_map.py > docs/files.md

clean: ## remove caches; runs and .venv stay
	rm -rf site .coverage* .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

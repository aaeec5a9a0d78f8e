# These targets set up all that a machine with Python 3.11 needs, inside .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUN := results/quickstart
QUICKSTART := --configfile config/quickstart.yaml
DETECTOR := $(RUN)/models/kanoclip/kanoclip-tiny-128/synthetic_auxiliary/seed111/checkpoint.safetensors
export PATH := $(abspath $(VENV))/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install quickstart detector unlock test test-slow test-slurm lint docs generated

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/installed ## set up .venv with the package, the workflow and the development tools

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	python -m pip install --disable-pip-version-check -e ".[dev]"
	@touch $@

quickstart: install ## run the quickstart benchmark and print its main table
	snakemake --cores all $(QUICKSTART)
	@snakemake $(QUICKSTART) --report $(RUN)/report.zip --quiet all
	@echo; cat $(RUN)/tables/main.md
	@echo; echo "page     $(RUN)/index.html"; echo "figures  $(RUN)/figures/"; echo "report   $(RUN)/report.zip"

unlock: install ## release Snakemake's lock after a killed run (CONFIG=FILE for a configuration other than the quickstart)
	snakemake --unlock --configfile $(or $(CONFIG),config/quickstart.yaml)

detector: install ## train the model that kanoclip predict ships, guess thresholds, and copy both into the package
	snakemake --cores all $(QUICKSTART) --config 'seeds=[111]' threshold_folds=1 -- $(DETECTOR)
	cp $(DETECTOR) kanoclip/predict/embedded/kanoclip.safetensors
	python -m kanoclip.predict.guessing $(RUN)/data/synthetic_auxiliary/index.csv

test: install ## run the test suite
	python -m pytest -n 2

test-slow: install ## run the tests that take minutes
	python -m pytest -m slow

test-slurm: install ## run the tests on a real Slurm that they start on this machine (as root; see docs/cluster.md)
	python -m pytest -m slurm tests/slurm

lint: install ## check style, types, imports, the workflow and the wording
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	snakefmt --check Snakefile workflow
	snakemake --lint
	hadolint Dockerfile
	python tools/words.py

docs: install ## build the documentation in site/, which works offline
	python -m sphinx -W --keep-going -q -b html docs site
	@echo "site/index.html"

generated: install ## regenerate the schema, the page of all keys and the tables of methods from the code
	kanoclip schema --out workflow/schemas/config.schema.json --readme config/README.md
	kanoclip overview --out docs/methods/README.md --readme README.md

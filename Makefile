# Everything a fresh machine with Python 3.11 needs is set up by these targets, inside .venv.
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

install: $(VENV)/installed ## make .venv with the package, the workflow and the tools for development

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	python -m pip install --disable-pip-version-check -e ".[dev]"
	@touch $@

quickstart: install ## run the embedded benchmark and print its main table
	snakemake --cores all $(QUICKSTART)
	@snakemake $(QUICKSTART) --report $(RUN)/report.zip --quiet all
	@echo; cat $(RUN)/tables/main.md
	@echo; echo "page     $(RUN)/index.html"; echo "figures  $(RUN)/figures/"; echo "report   $(RUN)/report.zip"

unlock: install ## after a killed run: lets the folder be used again (add CONFIG=FILE for another than the quickstart's)
	snakemake --unlock --configfile $(or $(CONFIG),config/quickstart.yaml)

detector: install ## train the model that kanoclip predict uses, and put it into the package
	snakemake --cores all $(QUICKSTART) --config 'seeds=[111]' -- $(DETECTOR)
	cp $(DETECTOR) kanoclip/predict/embedded/kanoclip.safetensors

test: install ## run the test suite
	python -m pytest -n 2

test-slow: install ## run the tests that take minutes
	python -m pytest -m slow

test-slurm: install ## run the drills on a real Slurm of this machine (as root; see docs/cluster.md)
	python -m pytest -m slurm tests/slurm

lint: install ## check style, types, imports and the workflow
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	snakefmt --check Snakefile workflow
	snakemake --lint
	hadolint Dockerfile

docs: install ## build the documentation in site/, to be read without network
	python -m sphinx -W --keep-going -q -b html docs site
	@echo "site/index.html"

generated: install ## write what is made from the code: the schema, the page of all keys, the tables of methods
	kanoclip schema --out workflow/schemas/config.schema.json --readme config/README.md
	kanoclip overview --out docs/methods/README.md --readme README.md

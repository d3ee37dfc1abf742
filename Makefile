# samsweep's commands; `make` lists them. All of them set up .venv first if need be. The tests take
# more options of pytest: make test ARGS='-k sweep'.

PYTHON ?= python3
STUDY ?= default
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo tables report status test test-all test-gpu test-slurm test-slurm-quick docs lint format typecheck bench bench-gpu bench-sharpness faults \
	campaign campaign-collect campaign-rehearsal campaign-wheels clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' \
		| awk -F'\t' '{ printf "  make %-16s %s\n", $$1, $$2 }'

install: $(INSTALLED) ## set up .venv with samsweep and all it needs (about 6 GB, minutes)

$(INSTALLED): pyproject.toml
	@echo "Setting up $(VENV): the package, its dependencies and the tools (about 6 GB, minutes)."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "samsweep needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -e '.[dev]'
	@touch $@

demo: $(INSTALLED) ## the main job on embedded data: 16 networks, then the tables (minutes)
	@echo "Training 16 small networks on scikit-learn's digits; finished ones are skipped."
	$(BIN)/python -m samsweep run +experiment=demo
	@$(MAKE) --no-print-directory tables STUDY=demo

tables: $(INSTALLED) ## print and write the tables of STUDY (default: default)
	@$(BIN)/python -m samsweep tables study=$(STUDY) $(if $(REFERENCE),reference=$(REFERENCE))

report: $(INSTALLED) ## the tables, figures and one report.html of STUDY
	@$(BIN)/python -m samsweep report study=$(STUDY) $(if $(REFERENCE),reference=$(REFERENCE))

status: $(INSTALLED) ## where the cells of STUDY stand, also while they run
	@$(BIN)/python -m samsweep status study=$(STUDY)

test: $(INSTALLED) ## the tests, but for the slow ones (minutes)
	@echo "Running the tests; make test-all adds the slow ones."
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-all: $(INSTALLED) ## all tests but those that need a GPU or a Slurm
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not gpu and not slurm' --hypothesis-profile=thorough $(ARGS)

test-gpu: $(INSTALLED) ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

test-slurm: $(INSTALLED) ## the tests on a Slurm of their own (root; slurm-wlm, munge, slurmdbd, mariadb-server)
	$(BIN)/python -m pytest -m slurm tests/cluster --durations=0 $(ARGS)

test-slurm-quick: $(INSTALLED) ## the quicker ones of them (about 10 minutes)
	$(BIN)/python -m pytest -m 'slurm and not slow' tests/cluster --durations=0 $(ARGS)

docs: $(INSTALLED) ## the site of the documentation, with the reference: site/index.html
	$(BIN)/python -W ignore -m sphinx -q -W -b html -d site/.trees docs site
	@echo "site/index.html"

lint: $(INSTALLED) ## style, docstrings and the layers' import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

format: $(INSTALLED) ## bring the code into form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

typecheck: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

bench: $(INSTALLED) ## where the time of training goes, against its targets (an hour)
	$(BIN)/python benchmarks/speed.py $(ARGS)

bench-gpu: $(INSTALLED) ## a step of SAM on a GPU, in each way to take it (a few minutes)
	$(BIN)/python benchmarks/speed_gpu.py $(ARGS)

bench-sharpness: $(INSTALLED) ## lambda_max and top 5 beside other libraries (over an hour)
	$(BIN)/python -W ignore::FutureWarning benchmarks/sharpness.py $(ARGS)

faults: $(INSTALLED) ## what breaks: kills, damaged files, full disks, wrong words, counted (two hours)
	$(BIN)/python benchmarks/faults.py $(ARGS)

UNITS ?= campaign/units.yaml
MINUTES ?= 9

campaign: $(INSTALLED) ## the next unit of the CIFAR-100 campaign, within MINUTES (campaign/README.md)
	@$(BIN)/python -m campaign.unit --units $(UNITS) --minutes $(MINUTES)

campaign-collect: $(INSTALLED) ## add what came home (campaign/home) to the campaign's results
	@$(BIN)/python -m campaign.collect --units $(UNITS) $(ARGS)

campaign-rehearsal: $(INSTALLED) ## the campaign from carrying to collecting, in small (IMAGES=folder; minutes)
	@$(BIN)/python -m campaign.rehearse $(IMAGES)

campaign-wheels: $(INSTALLED) ## the wheels that a GPU machine without network lacks (FOR=3.12)
	$(BIN)/python -m pip download -q --no-deps --only-binary=:all: --python-version $(or $(FOR),3.12) \
		--implementation cp --platform manylinux2014_x86_64 -d campaign/wheels -r campaign/wheels.txt
	$(BIN)/python -m pip wheel -q --no-deps -w campaign/wheels antlr4-python3-runtime==4.9.3

clean: ## delete what the tools left behind; never results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist

# Each target sets itself up in .venv on its first call, with the versions of constraints.txt.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-slurm lint report docs lock clean

help: ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

demo: .venv/installed ## run the whole pipeline on embedded phantoms and print the Dice table
	$(BIN)/snakemake --cores all

test: .venv/installed-test ## run the test suite (ARGUMENTS="tests/methods -k dice" selects)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGUMENTS)

test-slurm: .venv/installed-test ## run the tests against a real SLURM (root, slurmctld)
	$(BIN)/pytest -m slurm tests/slurm

lint: .venv/installed-test ## check style, import direction, types and the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/snakemake --lint

report: .venv/installed ## make Snakemake's own report, report.html
	$(BIN)/snakemake --report report.html

docs: .venv/installed ## make config/README.md and the JSON schemas from the config's models
	$(BIN)/python -m pipeline_lib.tools.documentation

lock: .venv/installed-test ## write the versions that are installed to constraints.txt
	{ echo '# The versions with which `make` installs and CI tests; made by `make lock`.'; \
	  $(BIN)/pip freeze --exclude-editable | grep -v -e ' @ ' -e '^lacuna'; } > constraints.txt

clean: ## remove .venv and everything that a run makes here (not models/)
	rm -rf .venv .snakemake results resources work logs report.html

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: name a newer one with make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/python pyproject.toml constraints.txt
	$(BIN)/pip install --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/python pyproject.toml constraints.txt
	$(BIN)/pip install --constraint constraints.txt --editable '.[test,cluster,tensorboard]'
	touch $@ .venv/installed

# make demo: the whole method on the embedded benchmark; make test: the test suite; make lint: format and style.
# Each sets itself up in .venv on its first call.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slurm lint report docs clean

demo: .venv/installed
	$(BIN)/snakemake --cores all
	@$(BIN)/python -m pipeline_lib.reporting.tables results/report

test: .venv/installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGUMENTS)

test-slurm: .venv/installed-test
	$(BIN)/pytest -m slurm tests/slurm

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

report: .venv/installed
	$(BIN)/snakemake --report report.html

docs: .venv/installed
	$(BIN)/python -m pipeline_lib.tools.documentation

clean:
	rm -rf .venv .snakemake results resources work logs report.html

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: name a newer one with make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/python pyproject.toml
	$(BIN)/pip install --editable .
	touch $@

.venv/installed-test: .venv/python pyproject.toml
	$(BIN)/pip install --editable '.[test,cluster,tensorboard]'
	touch $@ .venv/installed

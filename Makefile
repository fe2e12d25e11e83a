# One entry for everything. Each target installs what it needs into .venv first: minutes the first
# time, nothing afterwards until pyproject.toml changes.

PYTHON ?= python3
PROFILE ?= lite
SEEDS ?= 1
SCHEDULER ?=
NOTEBOOKS ?=
CAMPAIGN ?=

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# There from the first file of a new .venv until its last package: what an interruption leaves.
UNFINISHED := $(VENV)/.unfinished

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help reproduce test quick thorough campaign lab bench render docs lint clean

help: ## show this list
	@echo "make TARGET [VARIABLE=value ...]"
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'
	@echo
	@echo "  PYTHON     the Python (3.11 or newer) that makes $(VENV); now $(PYTHON)"
	@echo "  PROFILE    size of the runs: smoke, lite, desk or paper; now $(PROFILE)"
	@echo "  SEEDS      runs per table cell; now $(SEEDS)"
	@echo "  SCHEDULER  address of a Dask scheduler, e.g. tcp://host:8786; empty: this machine"
	@echo "  CAMPAIGN   options of the campaign, e.g. \"--seed 2 --parts kills,input --size 0.1\""
	@echo "  NOTEBOOKS  names of the notebooks to reproduce, or all; empty: all but the long ones"

reproduce: $(INSTALLED) ## train, run every notebook, write build/report/index.html and the scoreboard of claims
	$(VENV)/bin/sparcl-lite reproduce --profile $(PROFILE) --seeds $(SEEDS) $(if $(SCHEDULER),--scheduler $(SCHEDULER) )--output build $(NOTEBOOKS)

# Two processes test at once, a file at a time, in the order of names: the default, files of many tests first, leaves long
# files of few tests to the end. One thread each is enough: with more, the processes wait for each other most of the time.
TOGETHER := --numprocesses 2 --dist loadfile --no-loadscope-reorder
test quick thorough: export OMP_NUM_THREADS := 1

test: $(INSTALLED) ## run the test suite, then run every committed notebook twice and compare it with its stored outputs
	@status=0; \
	$(PY) -m pytest $(TOGETHER) || status=$$?; \
	PYTHONPATH=tests $(PY) -m pytest -p nbval_twice $(TOGETHER) \
	  --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks || status=$$?; \
	exit $$status

quick: $(INSTALLED) ## run the tests that take seconds each
	$(PY) -m pytest $(TOGETHER) -m "not slow and not long"

thorough: $(INSTALLED) ## run the whole test suite, and every notebook from nothing (about half an hour)
	$(PY) -m pytest $(TOGETHER) -m ""

campaign: $(INSTALLED) ## kill processes, fill disks and give wrong input by the hundred, and write docs/reliability.md's table
	PYTHONPATH=tests:. $(PY) -m campaign --write $(CAMPAIGN)

lab: $(INSTALLED) ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab notebooks

bench: $(INSTALLED) ## time a training step on this machine, and all that is neither forward nor backward
	$(VENV)/bin/sparcl-lite bench overhead

render: $(INSTALLED) ## re-render the committed notebooks and figures/ from results/
	$(VENV)/bin/sparcl-lite render

docs: $(INSTALLED) ## write the documentation, with every notebook and the scoreboard, to build/report/index.html
	$(VENV)/bin/sparcl-lite docs

lint: $(INSTALLED) ## check style and formatting, notebooks included
	$(PY) -m ruff check
	$(PY) -m ruff format --check

clean: ## remove build/, the caches and .venv
	rm -rf build dist $(VENV) *.egg-info .pytest_cache .ruff_cache .hypothesis dask-worker-space dask-scratch-space
	find . -name .git -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# A .venv without a working pip, or one whose making was interrupted, is made again from nothing.
# Any other .venv is kept and brought up to date. pip would compile modules on one core; `compileall` does on all, and
# fails for the few that need another Python and that nothing imports.
$(INSTALLED): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not found: name one, e.g. make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1): name another, e.g. make PYTHON=python3.12" >&2; exit 1; }
	@if [ -e $(UNFINISHED) ] || ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' cannot make virtual environments: install its venv package (Debian, Ubuntu: python3-venv) or name another PYTHON" >&2; exit 1; }; \
	  if [ -e $(VENV) ]; then echo "$(VENV) is unfinished or broken: making it again."; else echo "Making $(VENV)."; fi; \
	  rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && "$(PYTHON)" -m venv $(VENV); \
	fi
	@echo "Installing sparcl-lite and what it needs into $(VENV)."
	@echo "The first time takes 3 to 10 minutes and, on Linux x86-64, 7 GB of disk: most of it is PyTorch."
	@$(PY) -m pip install -q --disable-pip-version-check --no-compile -e '.[all]'
	@$(PY) -m compileall -qq -j 0 $(VENV)/lib || true
	@rm -f $(UNFINISHED)
	@touch $@
	@echo "Installed. For the command sparcl-lite: source $(VENV)/bin/activate, or $(VENV)/bin/sparcl-lite"

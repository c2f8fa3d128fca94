# One definition of every check, for laptop and CI. Needs Python 3.11 or newer and make; the rest goes into $(VENV).
#
#   make demo       the real daemon updating simulated devices, in under a minute; LINGER=1 lets it run on,
#                   SCENARIO=rack shows a careful rollout
#   make test       the test suite with coverage       ARGS="tests/protocol -k frame" narrows it
#   make test-usb   tests on a real USB stack, in a virtual machine that is built for them (root, once a week)
#   make check      style, types, layers, dependencies, changelog fragments
#   make format     what `make check` would complain about and a tool can mend
#   make docs       the reference pages that are tables of the code
#   make pictures   the pictures of the status page, with Chromium
#   make site       all pages as a site, in dist/site
#   make man        manual pages, in dist/man
#   make completion what bash, zsh and fish load to complete commands, in dist/completion
#   make deb        the Debian package, in dist
#   make test-deb   that package in the virtual machine: installed, upgraded, removed, purged
#   make bench      figures, as a table
#   make campaign   the fault tests with many more samples, then ten minutes of hostile bytes for every parser
#   make lock       the lock files anew from pyproject.toml
#   make clean

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
# Locked files only, checked by hash; nothing is fetched that a lock does not name.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev

.PHONY: demo test test-usb check format docs pictures man completion site deb test-deb bench campaign lock clean
.DELETE_ON_ERROR:

demo: $(RUNTIME)
	$(BIN)/firmwarden demo $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(LINGER),--linger) $(ARGS)

# Narrowed by ARGS, the suite runs without the coverage threshold, which only the whole can reach.  The fault tests live
# through the same lines a million times: traced they would take three times as long, and show nothing new.
test: $(DEV)
ifeq ($(strip $(ARGS)),)
	$(BIN)/coverage run -m pytest --ignore=tests/faults
	$(BIN)/coverage report
	$(BIN)/python -m pytest tests/faults
else
	$(BIN)/python -m pytest $(ARGS)
endif

# ARGS are pytest's; --image only builds the machine's disk.
test-usb: $(DEV)
	PYTHONPATH=tests/usb $(BIN)/python -m lab $(ARGS)

check: $(DEV)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry daemon
	$(BIN)/towncrier build --draft --version next >/dev/null

format: $(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m support.reference_pages
	PYTHONPATH=tests $(BIN)/python -m support.api_page
	PYTHONPATH=tests $(BIN)/python -m support.power_cut_page
	PYTHONPATH=tests $(BIN)/python -m support.failsafe_page
	PYTHONPATH=tests $(BIN)/python -m support.threat_page

pictures: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m support.page_pictures

site: $(DEV)
	$(BIN)/sphinx-build --quiet --fail-on-warning docs dist/site

man: $(RUNTIME)
	PYTHONPATH=tests $(BIN)/python -m support.man_pages dist/man

completion: $(RUNTIME)
	mkdir -p dist/completion
	_FIRMWARDEN_COMPLETE=bash_source $(BIN)/firmwarden >dist/completion/firmwarden
	_FIRMWARDEN_COMPLETE=zsh_source $(BIN)/firmwarden >dist/completion/_firmwarden
	_FIRMWARDEN_COMPLETE=fish_source $(BIN)/firmwarden >dist/completion/firmwarden.fish

deb: completion man
	debian/build

# ARGS are pytest's.
test-deb: $(DEV)
	PYTHONPATH=tests/usb $(BIN)/python -m lab.package $(ARGS)

bench: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

# The time limits of single tests are for the samples of `make test`.
campaign: $(DEV)
	$(BIN)/python -m pytest tests/faults tests/fuzz --samples=200 --fuzz-minutes=10 --timeout=1800 \
	  -o faulthandler_timeout=2000 $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Firmwarden needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) ..."
	$(INSTALL) --require-hashes --requirement requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(RUNTIME)
	@echo "Installing development tools into $(VENV) ..."
	$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@touch $@

# For every platform and every supported Python at once. The development lock contains the runtime's versions.
COMPILE := $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --extra cli --extra metrics --extra web pyproject.toml
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --group build --output-file requirements.lock
	$(COMPILE) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
	  .pytest_cache .ruff_cache
	find daemon tests -name __pycache__ -type d -prune -exec rm -rf {} +

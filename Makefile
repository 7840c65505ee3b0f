# Each target installs what it needs into .venv, once. PYTHON chooses the interpreter: make demo PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DOCS := $(VENV)/.installed-docs

TEACHER := configs/demo/unet_r18_phantom.py
STUDENT := configs/demo/cwd_unet_r18_phantom.py
# Processes that share the tests; each runs one thread. In their order, the long ones are not the last.
WORKERS ?= 2
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder
CONFIGS := $(shell find configs -name '*.py')

export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo test test-all lint docs clean

help:
	@echo "make install  create .venv and install the package with the tested versions"
	@echo "make demo     install, train a teacher on the phantom, distil a student from it, test both"
	@echo "make test     install, run the tests in two processes (WORKERS=8: in eight)"
	@echo "make test-all the same with all repetitions"
	@echo "make lint     install, check style, types and the import contract"
	@echo "make docs     build the documentation site into site/ (needs no PyTorch)"
	@echo "make clean    delete .venv and the tools' caches (not data/, not work_dirs/)"

install: $(INSTALLED)

demo: $(INSTALLED) work_dirs/cwd_unet_r18_phantom/.trained
	$(PY) test.py $(TEACHER)
	$(PY) test.py $(STUDENT)

test: $(INSTALLED_DEV)
	$(PYTEST) -m "not full"

test-all: $(INSTALLED_DEV)
	$(PYTEST)

lint: $(INSTALLED_DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

# Without -q, with which MkDocs does not count its warnings.
docs: $(INSTALLED_DOCS)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

clean:
	rm -rf $(VENV) build site dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

data/phantom/manifest.json: | $(INSTALLED)
	$(PY) tools/make_phantom.py --out data/phantom

# Trained once, and again when a config changes.
work_dirs/unet_r18_phantom/.trained: $(CONFIGS) data/phantom/manifest.json | $(INSTALLED)
	$(PY) train.py $(TEACHER)
	@touch $@

work_dirs/cwd_unet_r18_phantom/.trained: work_dirs/unet_r18_phantom/.trained
	$(PY) train.py $(STUDENT)
	@touch $@

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed, $(PYTHON) is not. Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): requirements.txt setup.py pyproject.toml | $(PY)
	$(PY) -m pip install -q -r requirements.txt -e .
	@touch $@

$(INSTALLED_DOCS): requirements-docs.txt | $(PY)
	$(PY) -m pip install -q -r requirements-docs.txt
	@touch $@

$(INSTALLED_DEV): requirements-dev.txt requirements-docs.txt $(INSTALLED)
	$(PY) -m pip install -q -r requirements-dev.txt
	@touch $@

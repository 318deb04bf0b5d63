# `make demo` and `make test` each need Python 3.11 and nothing else: they make their
# own virtual environment, and a second run starts at once.
PYTHON ?= python3.11
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test slow lint clean

demo: .venv-demo/installed
	.venv-demo/bin/oscillink-store demo

# a write beyond one of Arrow's buffers ends the run where it happens
test: .venv/installed lint
	PYTHONDONTWRITEBYTECODE= ARROW_DEBUG_MEMORY_POOL=abort \
	.venv/bin/python -m pytest -n 3 --dist worksteal

slow: .venv/installed
	.venv/bin/python $(PIP_INSTALL) -e '.[test,fuzz,ray]'
	TMPDIR=/var/tmp .venv/bin/python -m pytest -m slow

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv-demo/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP_INSTALL) -e .
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP_INSTALL) -e '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

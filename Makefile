# `make demo` shows what jaxmeta does, `make test` runs the whole suite; each in a virtual environment of its own.
PYTHON ?= python3
DEMO_STEPS ?= 500
DEMO_EPISODES ?= 300

.PHONY: demo test clean

demo: .demo/venv/installed
	rm -rf .demo/run
	.demo/venv/bin/jaxmeta train --algorithm maml --data glyphs --ways 5 --shots 1 --queries 3 --width 16 \
		--steps $(DEMO_STEPS) --episodes $(DEMO_EPISODES) --validate-every $$(( ($(DEMO_STEPS) + 4) / 5 )) --out .demo/run

test: .venv/installed
	.venv/bin/python -m pytest

.demo/venv/installed: pyproject.toml
	rm -rf .demo/venv
	$(PYTHON) -m venv .demo/venv
	.demo/venv/bin/python -m pip install --quiet .
	touch $@

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .demo .venv build

# `make demo` shows what jaxmeta does, `make test` runs the whole suite; each in a virtual environment of its own.
# PYTHON chooses the interpreter, DEMO_STEPS and DEMO_EPISODES make the demonstration shorter or longer.
PYTHON ?= python3
DEMO_STEPS ?= 400
DEMO_EPISODES ?= 300

.PHONY: demo test clean

demo:
	rm -rf .demo build
	$(PYTHON) -m venv .demo/venv
	.demo/venv/bin/python -m pip install --quiet .
	.demo/venv/bin/jaxmeta train --algorithm maml --data glyphs --ways 5 --shots 1 --queries 3 --width 16 \
		--steps $(DEMO_STEPS) --episodes $(DEMO_EPISODES) --validate-every $$(( ($(DEMO_STEPS) + 3) / 4 )) --out .demo/run

test: .venv/installed
	.venv/bin/python -m pytest -n auto --dist loadgroup

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .demo .venv build

# `make demo` shows what jaxmeta does, `make test` runs the whole suite; each in a virtual environment of its own.
# `make test-short` runs a short part on another interpreter, `make test-lowest` with the lowest versions that pyproject.toml allows;
# `make long` tests and measures what takes longer than CI may: run it before and after a change of the core.
# PYTHON chooses the interpreter, DEMO_STEPS and DEMO_EPISODES make the demonstration shorter or longer.
PYTHON ?= python3
DEMO_STEPS ?= 400
DEMO_EPISODES ?= 300

# One or two quick files of each room, and the command from end to end.
SHORT = tests/core/test_quadratic.py tests/core/test_pytree.py tests/estimator/test_solvers.py tests/training/test_loop.py \
	tests/data/test_dataset.py tests/models/test_adapters.py tests/cli/test_tying_cli.py
PYTEST = -m pytest -n auto --dist loadgroup
LOWEST = import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; extras = project["optional-dependencies"]; \
	every = project["dependencies"] + sum((extras[name] for name in ("data", "equinox", "pictures", "tensorboard", "test", "trees")), []); \
	print(*sorted({each.replace(">=", "==") for each in every if "[" not in each}), sep="\n")

.PHONY: demo test test-short test-lowest guards long clean

demo:
	rm -rf .demo build
	$(PYTHON) -m venv .demo/venv
	.demo/venv/bin/python -m pip install --quiet '.[pictures]'
	.demo/venv/bin/jaxmeta train --algorithm maml --data glyphs --ways 5 --shots 1 --queries 3 --width 16 \
		--steps $(DEMO_STEPS) --episodes $(DEMO_EPISODES) --validate-every $$(( ($(DEMO_STEPS) + 3) / 4 )) --out .demo/run

test: .venv/installed
	.venv/bin/python $(PYTEST)

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

test-short:
	rm -rf .short
	$(PYTHON) -m venv .short
	.short/bin/python -m pip install --quiet --editable '.[test]'
	.short/bin/python $(PYTEST) -m 'not slow' $(SHORT)

test-lowest:
	rm -rf .lowest
	$(PYTHON) -m venv .lowest
	.lowest/bin/python -c '$(LOWEST)' > .lowest/constraints.txt
	.lowest/bin/python -m pip install --quiet --editable '.[test]' --constraint .lowest/constraints.txt
	.lowest/bin/python $(PYTEST) -m 'not slow' $(SHORT)

# What a reader relies on before any test runs: style, and that a type checker knows the public names and README's code.
.venv/guarded: .venv/installed
	.venv/bin/python -m pip install --quiet --editable '.[guards]'
	touch $@

guards: .venv/guarded
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	awk '/^```python/ {inside = 1; count++; next} /^```/ {inside = 0} inside && count == 1' README.md > tests/typing/readme.py
	.venv/bin/python -m pyright --project tests/typing

long: .venv/installed
	.venv/bin/python $(PYTEST) -m long
	.venv/bin/python -m benchmarks.meta_step
	.venv/bin/python -m benchmarks.small_step
	.venv/bin/python -m benchmarks.long_runs

clean:
	rm -rf .demo .venv .short .lowest build

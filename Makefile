# Needs Python 3.11 or newer and make, nothing else: the first target that runs creates .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FRESH := build/plugin
# Bytecode is written of what is imported, when it is: to compile all that is installed takes a minute. Without any,
# every command of a test would parse torch and diffusers again, for 30 seconds.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
# Two workers, each with half of the modules; the one that is done first takes from the other's end.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
OPEN ?= $(shell command -v xdg-open || command -v open)

.PHONY: help demo test test-device test-all check plugin format docs notebooks bench bench-gpu ladder quality runs clean
help: ## show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | sort

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## segment the example photos with the bundled model
	$(BIN)/genseg segment examples/images --out demo-output --save overlay,labels,npz --overwrite
	@echo "The pictures are in demo-output/: NAME.overlay.png beside NAME.labels.png and NAME.npz."

test: $(READY) ## run the tests with coverage, but those marked slow
	$(PYTEST) --cov --cov-report=term --cov-fail-under=95
	@echo "Tests marked slow were left out; make test-all runs them too."

test-device: $(READY) ## run the tests of the path over CUDA, on a stand-in for a card
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/device

test-all: $(READY) ## run every test, the slow ones and those of test-device too
	$(PYTEST) -m "slow or not slow"
	$(MAKE) test-device

check: $(READY) ## linters and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

plugin: $(READY) ## the example plug-ins and a new one, from wheels in an environment of their own
	rm -rf $(FRESH)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(FRESH)/wheels . ./examples/genseg-dcgan ./examples/genseg-anyup
	$(PYTHON) -m venv $(FRESH)/venv
	$(FRESH)/venv/bin/python $(INSTALL) --constraint constraints.txt $(FRESH)/wheels/*.whl pytest
	cd $(FRESH) && venv/bin/python -c "from genseg.app.photos import examples; assert len(examples()) == 4"
	cd $(FRESH) && venv/bin/genseg backends new fresh-model
	$(FRESH)/venv/bin/python $(INSTALL) --no-deps gan-face-generate==1.1.1 --editable $(FRESH)/genseg-fresh-model
	cd $(FRESH) && venv/bin/python -m pytest -q -c /dev/null --rootdir . ../../examples/genseg-dcgan/tests ../../examples/genseg-anyup/tests genseg-fresh-model/tests
	cd $(FRESH) && venv/bin/genseg generate "" -b dcgan -o faces

format: $(READY) ## put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## build the pages of docs/ into build/docs and open them
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs build/docs
	@echo "The pages are in build/docs/index.html."
	$(if $(OPEN),-$(OPEN) build/docs/index.html)

notebooks: $(READY) ## run the example notebooks and store what their cells show
	OMP_NUM_THREADS=1 $(BIN)/python tests/helpers/notebooks.py

bench: $(READY) ## time and FLOPs of the engine beside the procedure as published
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/flops.py

bench-gpu: $(READY) ## time, memory and launches on a card, as a table to paste into an issue
	$(BIN)/python benchmarks/gpu.py $(if $(MODELS),--models $(MODELS))

ladder: $(READY) ## what each approximation gains and costs; DATA=FOLDER of photos with ground truth
	$(BIN)/python benchmarks/ladder.py --data $(DATA)

quality: $(READY) ## how good the segments are beside other methods'; DATA=FOLDER of photos with ground truth
	$(BIN)/python benchmarks/quality.py --data $(DATA)

runs: $(READY) ## rate of runs, what kills do to them, their memory and speed-up; DATA=FOLDER of photos
	for what in rate kill memory workers; do $(BIN)/python benchmarks/runs.py $$what --images $(DATA) || exit; done

ladder quality runs: DATA ?= $(error give the folder: make $@ DATA=FOLDER)

clean: ## remove what the targets made
	rm -rf $(VENV) build demo-output .pytest_cache .mypy_cache .ruff_cache .coverage

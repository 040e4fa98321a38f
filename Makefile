# Common tasks; `make` without a target lists them.

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

# The first Python >= 3.11 with the venv module; PYTHON=... selects another.
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$candidate -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$candidate && break; done)
FOUND = @test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later with venv in PATH (Debian: apt install python3 python3-venv)" >&2; exit 1; }
INSTALL = -m pip --disable-pip-version-check --no-input install --quiet
HASHED = --require-hashes --only-binary=:all: # only files with a known hash, and no source builds

.DEFAULT_GOAL := help
.PHONY: help env demo docs test test-long lint bench peers kafka stack dashboards pictures constraints clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

env: $(READY) ## create .venv with all dependencies, including those of tests

$(READY): pyproject.toml deploy/constraints.txt
	$(FOUND)
	@echo "installing the packages of deploy/constraints.txt into $(VENV): this takes minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) $(HASHED) -r deploy/constraints.txt
	$(BIN)/python $(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## stream MNIST, then Fashion-MNIST, to two learners and write a report (ARGS="--samples 2000")
	$(BIN)/lethe demo $(ARGS)

docs: $(READY) ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict -f docs/mkdocs.yml

lint: $(READY) ## run ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Tests start many processes, which are to find modules compiled.
test test-long: export PYTHONDONTWRITEBYTECODE =
test test-long: export OMP_WAIT_POLICY = passive

# More workers than cores, since tests wait a lot. By module, long ones first, so that module fixtures are created once.
test: lint ## run lint, then pytest (ARGS="-k embedded")
	$(BIN)/pytest -n 4 --dist loadscope --no-loadscope-reorder $(ARGS)

test-long: $(READY) ## run the tests that take minutes, which `make test` skips (ARGS="-k sigterm")
	$(BIN)/pytest -m long $(ARGS)

bench: $(READY) ## measure speed through Apache Kafka relative to speed from memory (ARGS="--threads 2")
	$(BIN)/python -m deploy.bench $(ARGS)

peers: .venv-peers/.ready ## create .venv-peers with CapyMOA (needs Java) and Avalanche, for tests/benchmarks/peers

.venv-peers/.ready: tests/benchmarks/peers/requirements.txt
	$(FOUND)
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python $(INSTALL) -r $<
	.venv-peers/bin/python $(INSTALL) --no-deps -e .
	@touch $@

kafka: ## run Apache Kafka on 127.0.0.1:9092 until Ctrl-C; data in .kafka (ARGS="--port 9093")
	$(FOUND)
	$(PYTHON) deploy/kafka/node.py run --port 9092 --dir .kafka $(ARGS)

stack: $(READY) ## run Kafka, two services, producer, Prometheus and Grafana without Docker until Ctrl-C (ARGS="--samples 5000")
	$(BIN)/python deploy/stack.py $(ARGS)

dashboards: $(READY) ## regenerate deploy/grafana/dashboards and deploy/kubernetes/rules.yaml
	$(BIN)/python deploy/grafana/generate.py
	$(BIN)/python deploy/kubernetes/generate.py

pictures: $(READY) ## draw the pictures of the documentation, in some minutes (ARGS="--only report")
	$(BIN)/python -m tests.boards.pictures $(ARGS)

constraints: ## update deploy/constraints.txt to the newest versions allowed by pyproject.toml
	$(FOUND)
	$(PYTHON) -m venv --clear build/constraints
	build/constraints/bin/python $(INSTALL) uv -e '.[docs,embedded,onnx,pandas,river,test]'
	build/constraints/bin/python deploy/constraints.py > build/constraints.txt
	mv build/constraints.txt deploy/constraints.txt
	rm -rf build/constraints

clean: ## remove .venv, .venv-peers and caches; keeps .kafka, lethe-demo and lethe-stack
	rm -rf $(VENV) .venv-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

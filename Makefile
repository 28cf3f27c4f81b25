# Everything there is to do with DataMeta. `make run` and `make test` set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
RULES := datameta/logic/*,datameta/api/*,datameta/security.py,datameta/credentials.py,datameta/authz.py
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--extra server --extra client

N ?= 200000
SEED ?= $(shell date +%s)
KILLS ?= 150

PORTAL := datameta/web/portal/index.html
FRONTEND := $(shell find frontend -type f -not -path '*/node_modules/*' -not -name schema.d.ts 2>/dev/null)

.PHONY: run portal test test-portal check test-faults soak-faults fuzz bench docs screenshots pictures lock clean

## run: serve a demo portal on http://127.0.0.1:8080
run: $(VENV)/.installed $(PORTAL)
	$(BIN)/datameta serve --demo

## portal: build the browser application anew
portal: $(VENV)/.installed
	$(BIN)/python frontend/build.py

$(PORTAL): $(FRONTEND) openapi.yaml | $(VENV)/.installed
	$(BIN)/python frontend/build.py

## test: lint, types, and every test, with the coverage of the rules
test: $(VENV)/.installed-test $(PORTAL)
	$(BIN)/python frontend/build.py npm run --silent check
	$(BIN)/python frontend/build.py npm run --silent test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report=
	@# The rules are at 100 %; the gate leaves room for a branch that only a rare race takes.
	$(BIN)/coverage report --include='$(RULES)' --precision=2 --fail-under=99.9 --show-missing --skip-covered

## test-portal: of these the browser application alone, as people use it, in Debian's Chromium
test-portal: $(VENV)/.installed-test $(PORTAL)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/portal

## test-faults: what is killed, stopped, frozen and cut off loses nothing (KILLS=150, SEED=the time)
test-faults: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults --kills $(KILLS) --seed $(SEED)
	$(BIN)/python -m pytest -q -m faults tests/faults
	DATAMETA_RESUME_BYTES=5000000000 $(BIN)/python -m pytest -q tests/e2e/test_resume.py

## soak-faults: the same for an hour and more, with uploads to the store and through the portal (KILLS=5000)
soak-faults: KILLS = 5000
soak-faults: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults --kills $(KILLS) --seed $(SEED)
	$(BIN)/python -m tests.faults --kills $(KILLS) --seed $(SEED) --mode gateway

## fuzz: N generated requests and N/4 steps of the state machine (N=200000, SEED=the time)
fuzz: $(VENV)/.installed-test
	DATAMETA_FUZZ_CASES=$(N) DATAMETA_FUZZ_SEED=$(SEED) DATAMETA_FUZZ_EXAMPLES=$$(($(N) / 400)) DATAMETA_FUZZ_STEPS=100 \
		$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -rP tests/fuzz tests/flows/test_state_machine.py

## bench: the figures of docs/performance.md
bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.bench

## docs: renew docs/errors.md, docs/api.md and docs/authorisation.md from the code and the tests
docs: $(VENV)/.installed-test
	WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/docs
	$(BIN)/python -m tests.authz

## screenshots: renew docs/screenshots, every page of the browser application in both colour schemes
screenshots: $(VENV)/.installed-test $(PORTAL)
	DATAMETA_SCREENSHOTS=docs/screenshots $(BIN)/python -m pytest -q tests/portal

## pictures: renew docs/pictures with LibreOffice (Debian's libreoffice-calc-nogui and poppler-utils)
pictures: $(VENV)/.installed-test
	$(BIN)/python -m tests.sheets.pictures

## lock: renew the lock files from the floors in setup.py
lock: $(VENV)/.installed-test
	$(BIN)/pip install --quiet uv
	$(COMPILE) --upgrade setup.py -o requirements.lock
	$(COMPILE) --upgrade --extra test setup.py -o requirements-test.lock

## clean: remove the environment and the demo portal's data
clean:
	rm -rf $(VENV) var frontend/node_modules datameta/web/portal

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'DataMeta needs Python 3.11 or newer: make PYTHON=/path/to/python3.11'; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy python3-venv; \
		else echo 'Python comes without venv here. Run: sudo apt-get install python3-venv'; exit 1; fi; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed: $(VENV)/bin/pip requirements.lock setup.py
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-test.lock
	@touch $@

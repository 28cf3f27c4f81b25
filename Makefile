# Everything there is to do with DataMeta. `make run` and `make test` set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
RULES := datameta/logic/*,datameta/api/*,datameta/security.py,datameta/credentials.py,datameta/authz.py
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
COMPILE := $(LOCK) --extra server --extra client
COMPILE_AUDIT := $(LOCK) --extra audit
AUDIT := .venv-audit

N ?= 200000
SEED ?= $(shell date +%s)
KILLS ?= 150
SETS ?= 1000000
H ?= 8

PORTAL := datameta/web/portal/index.html
FRONTEND := $(shell find frontend -type f -not -path '*/node_modules/*' -not -name schema.d.ts 2>/dev/null)

.PHONY: run develop portal test test-portal test-scale test-install check test-faults soak-faults soak fuzz bench docs screenshots pictures dist lock sbom audit clean

## run: serve a demo portal on http://127.0.0.1:8080
run: $(VENV)/.installed $(PORTAL)
	$(BIN)/datameta serve --demo

## develop: what is needed to change it: tests, linters, types, the browser application
develop: $(VENV)/.installed-test $(PORTAL)

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
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report= \
		--ignore tests/portal
	@# The rules are at 100 %; the gate leaves room for a branch that only a rare race takes.
	$(BIN)/coverage report --include='$(RULES)' --precision=2 --fail-under=99.9 --show-missing --skip-covered
	$(MAKE) test-portal

## check: all that CI runs
check: test test-faults

## test-portal: of the tests those of the browser application, as people use it, in Debian's Chromium
test-portal: $(VENV)/.installed-test $(PORTAL)
	@# A browser may be late on a busy machine: what fails is tried twice more, and told.
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --reruns 2 tests/portal

## test-scale: that lists, searches and submissions look at some of a million sets only (SETS=1000000)
test-scale: $(VENV)/.installed-test
	DATAMETA_SCALE_SETS=$(SETS) $(BIN)/python -m pytest -q tests/scale

## test-faults: what is killed, stopped, frozen and cut off loses nothing (KILLS=150, SEED=the time)
test-faults: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults --kills $(KILLS) --seed $(SEED)
	$(BIN)/python -m pytest -q -m faults tests/faults tests/e2e/test_scale.py tests/e2e/test_soak.py
	DATAMETA_RESUME_BYTES=5000000000 $(BIN)/python -m pytest -q tests/e2e/test_resume.py

## test-install: that docs/install.md leads to a portal and back, on a Debian that is made for it; as root
test-install: $(VENV)/.installed-test $(PORTAL)
	$(BIN)/python -m pytest -q -m faults tests/e2e/test_install.py

## soak-faults: the same for an hour and more, with uploads to the store and through the portal (KILLS=5000)
soak-faults: KILLS = 5000
soak-faults: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults --kills $(KILLS) --seed $(SEED)
	$(BIN)/python -m tests.faults --kills $(KILLS) --seed $(SEED) --mode gateway

## soak: fifty users for H hours: failures, the time of each operation, and memory (H=8)
soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.soak --hours $(H)

## fuzz: N generated requests and N/4 steps of the state machine (N=200000, SEED=the time)
fuzz: $(VENV)/.installed-test
	DATAMETA_FUZZ_CASES=$(N) DATAMETA_FUZZ_SEED=$(SEED) DATAMETA_FUZZ_EXAMPLES=$$(($(N) / 400)) DATAMETA_FUZZ_STEPS=100 \
		$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -rP tests/fuzz tests/flows/test_state_machine.py

## bench: the figures of docs/performance.md
bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.bench

## docs: renew what is made from the code and the tests (errors, API, rights, settings), and build the site into site/
docs: $(VENV)/.installed-test
	WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/docs --ignore tests/docs/test_commands.py
	$(BIN)/python -m tests.authz
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

## screenshots: renew docs/screenshots, every page of the browser application in both colour schemes
screenshots: $(VENV)/.installed-test $(PORTAL)
	DATAMETA_SCREENSHOTS=docs/screenshots $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --reruns 2 tests/portal

## pictures: renew docs/pictures with LibreOffice (Debian's libreoffice-calc-nogui and poppler-utils)
pictures: $(VENV)/.installed-test
	$(BIN)/python -m tests.sheets.pictures

## dist: build the release into dist/: the source distribution, and from that the wheel
dist: $(VENV)/.installed-test
	$(BIN)/python -m build

## lock: renew the lock files from the floors in setup.py
lock: $(VENV)/.installed-test
	$(BIN)/pip install --quiet uv
	$(COMPILE) --upgrade setup.py -o requirements.lock
	$(COMPILE) --upgrade --extra test setup.py -o requirements-test.lock
	$(COMPILE_AUDIT) --upgrade setup.py -o requirements-audit.lock

## sbom: write what a portal is made of, as CycloneDX: sbom.json, and sbom-frontend.json for the browser application
sbom: $(VENV)/.installed $(AUDIT)/.installed
	$(AUDIT)/bin/cyclonedx-py requirements --output-reproducible --of JSON -o sbom.json requirements.lock
	$(BIN)/python frontend/build.py npm sbom --silent --package-lock-only --omit dev --sbom-format cyclonedx \
		| sed -n '/^{/,$$p' > sbom-frontend.json

## audit: look for known vulnerabilities in what is locked (asks pypi.org), and at the source with bandit
audit: $(AUDIT)/.installed
	$(AUDIT)/bin/bandit --quiet --recursive --configfile pyproject.toml datameta
	$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

## clean: remove the environment and the demo portal's data
clean:
	rm -rf $(VENV) $(AUDIT) site var frontend/node_modules datameta/web/portal

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

$(AUDIT)/.installed: $(VENV)/bin/pip requirements-audit.lock
	$(PYTHON) -m venv --clear $(AUDIT)
	$(AUDIT)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-audit.lock
	@touch $@

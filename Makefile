# Each target is one obvious line; `make demo` and `make test` set up what they need.
PYTHON ?= python3
# Each version of Python that is named has an environment of its own: PYTHON=python3.13 has .venv-3.13.
VENV := .venv$(patsubst python%,-%,$(filter-out python3,$(notdir $(PYTHON))))
BIN := $(VENV)/bin
# Two halve the time, since many tests wait for processes; 0 runs them in one process, as a debugger wants it.
WORKERS ?= 2

.PHONY: help setup demo test format node lint docs release release-check images e2e-tools e2e-up e2e-shell e2e-down e2e-smoke e2e e2e-slow e2e-1.34 e2e-1.37 fuzz fuzz-verifiers vectors bench bench-e2e soak lock protos clean

help: ## this list
	@awk -F':.*## ' '/^[a-z].*## / { printf "%-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.run ## the whole story on this machine, no SGX needed
	@$(BIN)/confcom demo $(ARGS)

test: $(VENV)/.dev ## everything that needs neither root nor a cluster; T=path or path::case for a part; PYTHON=python3.13
	$(BIN)/python -m pytest $(or $(T),--numprocesses=$(WORKERS) --dist=loadfile) $(ARGS)

format: $(VENV)/.dev ## format, and mend what the linter can mend
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format .

node: ## dcap-qvl for Node.js, beside which one test verifies (needs npm)
	npm ci --prefix requirements/node --ignore-scripts --no-audit --no-fund

lint: $(VENV)/.dev ## format, lint, types, layers, generated code
	$(BIN)/python scripts/lint.py

docs: $(VENV)-docs/.docs ## the site in site/, from docs/; ARGS=--serve to look at it
	@$(VENV)-docs/bin/python scripts/docs_site.py $(ARGS)

setup: $(VENV)/.dev ## the development environment in .venv

release: $(VENV)/.dev .venv-release/.release ## dist/VERSION: packages, images, chart, SBOMs, sums (needs root, Go); ARGS="--stand-in-base"
	@$(BIN)/python -m release $(ARGS)

release-check: $(VENV)/.dev ## DIST=dist/VERSION as strangers use it: packages, signatures, a registry, real Kubernetes (needs root, Go)
	$(BIN)/python -m pytest e2e/release -p no:randomly --durations=0 --release=$(DIST) $(ARGS)

images: $(VENV)/.dev ## the images of images/Dockerfile, without docker (needs root)
	$(BIN)/python -m e2e.images $(ARGS)

e2e-tools: $(VENV)/.dev ## build the cluster's programs once; about 12 minutes; ARGS="--kubernetes 1.34.4" for another version
	@$(BIN)/python -m e2e.cluster build $(ARGS)

e2e-up: $(VENV)/.dev ## one node of real Kubernetes in namespaces of its own (needs root and Go); ARGS="--nodes 3" for three
	@$(BIN)/python -m e2e.cluster up $(ARGS)

e2e-shell: $(VENV)/.dev ## a shell on the first node: kubectl, helm, ctr; ARGS="kubectl get pods" for one command
	@$(BIN)/python -m e2e.cluster shell $(ARGS)

e2e-down: $(VENV)/.dev ## end it; nothing of it stays, also after a crash
	@$(BIN)/python -m e2e.cluster down

e2e-smoke: $(VENV)/.dev ## the story on real Kubernetes (needs root and Go)
	$(BIN)/python -m pytest e2e/smoke $(ARGS)

e2e: $(VENV)/.dev ## every case on real Kubernetes, the smoke cases too (needs root and Go)
	$(BIN)/python -m pytest e2e/smoke e2e/full --ignore=e2e/full/slow $(ARGS)

e2e-1.34: $(VENV)/.dev ## the story, what its kubelet does to plugins, and what its API server lacks, on Kubernetes 1.34.4
	$(BIN)/python -m pytest e2e/smoke e2e/full/test_kubelet_contract.py e2e/full/test_older_api_server.py --kubernetes 1.34.4 $(ARGS)

e2e-1.37: $(VENV)/.dev ## updates of the device plugin, what is done to plugins, and admission, on Kubernetes 1.37.2
	$(BIN)/python -m pytest e2e/full/test_device_plugin.py e2e/full/test_kubelet_contract.py e2e/full/test_admission.py --kubernetes 1.37.2 $(ARGS)

e2e-slow: $(VENV)/.dev ## the cases on real Kubernetes that wait for minutes
	$(BIN)/python -m pytest e2e/full/slow $(ARGS)

fuzz: $(VENV)/.dev ## the AESM session, a live helper, and six parsers by atheris for 30 s each; five minutes
	$(BIN)/python -m fuzz $(ARGS)

fuzz-verifiers: $(VENV)/.dev ## confcom, dcap-qvl and Intel's QVL over 20,000 mutations each of genuine and simulated quotes
	$(BIN)/python -m fuzz.verifiers $(ARGS)

vectors: $(VENV)/.dev ## good and bad quotes with their verdicts, for other verifiers; ARGS=folder (default: .vectors)
	@$(BIN)/python -m vectors $(ARGS)

bench: $(VENV)/.dev ## how fast the daemons are, as a table and JSON; ARGS="--goals" fails if a goal is missed by far
	@$(BIN)/python -m bench $(ARGS)

bench-e2e: $(VENV)/.dev ## what the add-on costs on real Kubernetes; ten minutes (needs root and Go)
	@$(BIN)/python -m bench.cluster $(ARGS)

soak: $(VENV)/.dev ## ten minutes of abuse and updates beside well-behaved clients (needs root)
	@$(BIN)/python -m bench.soak $(ARGS)

lock: $(VENV)/.dev ## renew the hashed locks (needs uv)
	$(BIN)/python scripts/lock.py

protos: $(VENV)/.dev ## regenerate *_pb2.py from the .proto files
	$(BIN)/python scripts/protos.py

$(VENV)/.run: requirements/run.lock pyproject.toml
	@$(PYTHON) scripts/setup_venv.py $(VENV) run

$(VENV)/.dev: requirements/dev.lock pyproject.toml
	@$(PYTHON) scripts/setup_venv.py $(VENV) dev

.venv-release/.release: requirements/release.lock
	@$(PYTHON) scripts/setup_venv.py .venv-release release

$(VENV)-docs/.docs: requirements/docs.lock
	@$(PYTHON) scripts/setup_venv.py $(VENV)-docs docs

clean: ## remove environments and caches
	rm -rf .venv .venv-* site build requirements/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

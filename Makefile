# Each target is one obvious line; `make demo` and `make test` set up what they need.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: setup demo test lint images lock protos clean

demo: $(VENV)/.run ## the whole story on this machine, no SGX needed
	@$(BIN)/confcom demo $(ARGS)

test: $(VENV)/.dev ## everything that needs neither root nor a cluster
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## format, lint, types, layers, generated code
	$(BIN)/python scripts/lint.py

setup: $(VENV)/.dev ## the development environment in .venv

images: $(VENV)/.dev ## the images of images/Dockerfile, without docker (needs root)
	$(BIN)/python -m e2e.images $(ARGS)

lock: $(VENV)/.dev ## renew the hashed locks (needs uv)
	$(BIN)/python scripts/lock.py

protos: $(VENV)/.dev ## regenerate *_pb2.py from the .proto files
	$(BIN)/python scripts/protos.py

$(VENV)/.run: requirements/run.lock pyproject.toml
	@$(PYTHON) scripts/setup_venv.py $(VENV) run

$(VENV)/.dev: requirements/dev.lock pyproject.toml
	@$(PYTHON) scripts/setup_venv.py $(VENV) dev

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

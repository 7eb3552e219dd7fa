# One place for every routine. `make` alone lists them.
PY ?= python3
VENV ?= .venv
RUN = $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help demo test check format bench screenshots recording clean crash crash-points mutants nanogpt

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# ensurepip is missing on a Debian without python3-venv: then the system's pip fills an empty environment.
$(VENV)/.run: pyproject.toml constraints.txt
	@echo "Setting up $(VENV): once, some twenty seconds ..."
	@$(PY) -m venv $(VENV) 2>/dev/null || $(PY) -m venv --without-pip $(VENV)
	@$(PY) -m pip --python $(RUN)/python install -q -c constraints.txt -e . || $(RUN)/pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Adding the tools of development to $(VENV) ..."
	@$(PY) scripts/dev_requirements.py > $(VENV)/dev.txt
	@$(PY) -m pip --python $(RUN)/python install -q -c constraints.txt -r $(VENV)/dev.txt || $(RUN)/pip install -q -c constraints.txt -r $(VENV)/dev.txt
	@touch $@

demo: $(VENV)/.run  ## the screen on a pretend marketplace: six real training jobs, no account, no money
	@$(RUN)/gpuscale demo

check: $(VENV)/.dev  ## format, lint, types, import rule
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports

test: check  ## everything: the checks above and all tests
	$(RUN)/python -m pytest -q -n 3 --dist loadgroup $(TESTS)

SEEDS ?= 1000
sim: $(VENV)/.dev  ## live through SEEDS simulated worlds; SEED=17 lives through one again and prints its history
	$(RUN)/python -m tests.sim.campaign $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

sim-fleet: $(VENV)/.dev  ## a simulated day of 200 machines, one of which is taken away every ten minutes
	$(RUN)/python -m tests.sim.campaign --fleet 200

format: $(VENV)/.dev  ## put the code into its format
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

# peers are a help, not a need: what cannot be installed is left out of the table with a note
$(VENV)/.bench: $(VENV)/.dev
	$(PY) scripts/dev_requirements.py bench > $(VENV)/bench.txt
	-$(PY) -m pip --python $(RUN)/python install -q -r $(VENV)/bench.txt || $(RUN)/pip install -q -r $(VENV)/bench.txt
	@touch $@

bench: $(VENV)/.bench  ## measure the numbers that the design promises, beside peers and physical limits
	$(RUN)/python -m benchmarks

screenshots: $(VENV)/.dev  ## make the pictures of the README from the running program
	$(RUN)/python scripts/screenshots.py

$(VENV)/.pictures: $(VENV)/.dev
	$(PY) scripts/dev_requirements.py pictures > $(VENV)/pictures.txt
	-$(PY) -m pip --python $(RUN)/python install -q -r $(VENV)/pictures.txt || $(RUN)/pip install -q -r $(VENV)/pictures.txt
	@touch $@

recording: $(VENV)/.pictures  ## record the demonstration as it runs, as a session and an animated picture
	$(RUN)/python scripts/recording.py

N ?= 200
crash: $(VENV)/.dev  ## kill the real program N=200 times and check jobs, logs, orders and bill; SEED=n repeats a run
	$(RUN)/python -m tests.crash.campaign --kills $(N) $(if $(SEED),--seed $(SEED))

crash-points: $(VENV)/.dev  ## list every call at which the engine can die in the simulation; CRASHES=n lets it die n times
	$(RUN)/python -m tests.crash.points $(if $(CRASHES),--run $(CRASHES))

nanogpt: $(VENV)/.dev  ## nanoGPT itself on machines that are destroyed; needs GPUSCALE_TORCH_PYTHON, _NANOGPT_URL, _SHAKESPEARE
	@test -n "$(GPUSCALE_TORCH_PYTHON)" -a -n "$(GPUSCALE_NANOGPT_URL)" -a -n "$(GPUSCALE_SHAKESPEARE)" || echo \
	  "nanoGPT itself is left out: set GPUSCALE_TORCH_PYTHON (a Python with PyTorch), GPUSCALE_NANOGPT_URL (a repository" \
	  "that git can clone) and GPUSCALE_SHAKESPEARE (input.txt); a stand-in is trained all the same."
	$(RUN)/python -m pytest -q -s -rs tests/e2e/test_nanogpt.py

mutants: $(VENV)/.dev  ## plant each bug of a list into a copy of the code: the tests must notice every one
	$(RUN)/python scripts/mutants.py

clean:  ## remove what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# `make demo` and `make test` work on a fresh Debian machine: they install what is missing first.
#   PYTHON=/path/to/python3   the interpreter to use      ARGS="..."   more arguments for the command behind a target

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help bootstrap demo test check bench calls mutants prove clean distclean
# Debian leaves /sbin out of an unprivileged user's PATH; ip and iptables live there.
export PATH := $(PATH):/usr/sbin:/sbin
export PYTHON
ARGS ?=

help: ## say what each target does
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "make %-10s %s\n", $$1, $$2}'

demo: ## three hosts, two rails, faults: run the main job (installs what it needs)
	@scripts/bootstrap demo
	@.venv/bin/phalanx demo $(ARGS)

test: ## the static checks and every test (installs what it needs)
	@scripts/bootstrap test
	@scripts/test $(ARGS)

check: ## ruff, mypy and pyright
	@scripts/bootstrap demo
	@scripts/check

bench: ## phalanx beside its peers, written into docs/performance.md (two hours)
	@scripts/bootstrap demo
	@.venv/bin/python bench/run_all.py $(ARGS)

calls: ## what single calls cost
	@scripts/bootstrap demo
	@.venv/bin/python -m pytest bench/bench_*.py $(ARGS)

mutants: ## how many random runs it takes to notice each deliberate bug (ten minutes)
	@scripts/bootstrap demo
	@.venv/bin/python -m tests.mutants.hunt $(ARGS)
	@test -n "$(ARGS)" || .venv/bin/python -m tests.mutants.witnesses

prove: ## the long figures; interrupted, it goes on where it was
	@scripts/bootstrap test
	@scripts/prove $(ARGS)

bootstrap: ## only install what `make test` needs
	@scripts/bootstrap test

clean: ## remove what builds and tests left, not the virtual environment
	@rm -rf .build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .coverage demo.png
	@rm -f _native/*.so _native/*.o pan pan.* *.trail
	@find transport barrier _native tests bench examples -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## the virtual environment as well
	@rm -rf .venv

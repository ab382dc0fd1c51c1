# failwb. `make help` lists the targets; every one of them works in a fresh clone.
# Needs git, make and Python 3.11. Recipes quote every path, so a folder with a space in its name works too.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3.11
WORKERS ?= 2
GUIDE := nbs/guides/01_first_verdict.ipynb
TRUTH := nbs/guides/07_truth.ipynb
READY := .venv/.ready

# One home for what a reproducible run needs: our own tools first, one thread a process, no telemetry.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export DVC_NO_ANALYTICS := true

.NOTPARALLEL:
.PHONY: help env peers repro test lab sample reproducible reproducible-everywhere bench-gate bench-map bench-nulls bench-slices truth truth-full truth-page export clean-check evidence pipeline bench-engine bench-drift

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-24s %s\n", $$1, $$2 }' '$(firstword $(MAKEFILE_LIST))'

## -- for everybody

env: $(READY) ## the environment .venv, from constraints.txt (once; another interpreter: make env PYTHON=...)

repro: env evidence ## a fresh clone becomes a catalog, verdicts and a site
	dvc repro
	failwb summary
	@printf '\nThe site: %s\n' '$(CURDIR)/out/document/index.html'

lab: env evidence ## JupyterLab on the first guide
	dvc repro
	jupyter lab '$(GUIDE)'

## -- for whoever changes something

test: env .peers/mlserver/.ready clean-check pipeline ## everything that has to hold before a commit
	ruff check failwb nbs tests benchmarks setup.py
	nbdev_test --n_workers $(WORKERS)
	$(MAKE) truth
	python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

PEERS := $(patsubst benchmarks/peers/%.txt,.peers/%/.ready,$(wildcard benchmarks/peers/*.txt))

peers: ## other tools, each in an environment of its own (.peers/, cached, 7 GB); one that fails stops no other
	@for peer in $(PEERS); do $(MAKE) "$$peer" || echo "$$peer: not installed; the reason stands above." >&2; done

truth: env ## planted faults against what the loop says: a fixed sample, with floors (ten minutes)
	python -m benchmarks.truth sample --jobs $(WORKERS)

truth-full: env ## the whole grid on report seeds; goes on where it was interrupted (hours)
	python -m benchmarks.truth full --jobs $(WORKERS)
	python -m benchmarks.truth others --jobs $(WORKERS)

truth-page: env ## the guide on how right the answers are, executed anew from benchmarks/results
	jupyter nbconvert --to notebook --execute --inplace '$(TRUTH)'
	nbdev_clean

bench-gate: env ## simulated experiments with known answers: does the gate keep its promises? (3 minutes)
	python benchmarks/gate.py

bench-map: env ## the failure map beside other methods: trustworthiness, what moves when failures come, 200,000 failures (three minutes)
	python -m benchmarks.map

bench-engine: env ## forty experiments in forked kernels beside papermill, one after the other (six minutes)
	python benchmarks/engine.py

bench-slices: env $(filter .peers/sliceline/.ready .peers/pysubgroup/.ready,$(PEERS)) ## slice search beside its peers: CPU seconds and peak memory (ten minutes)
	python benchmarks/slices.py

bench-nulls: env $(filter .peers/sliceline/.ready .peers/divexplorer/.ready .peers/pysubgroup/.ready,$(PEERS)) ## what is claimed where there is nothing to find, by failwb and others: 500 tables; goes on where it was interrupted (two hours)
	python -m benchmarks.nulls --to benchmarks/results/nulls.json

bench-drift: env $(filter .peers/nannyml/.ready .peers/evidently/.ready,$(PEERS)) ## drift of a million rows beside nannyml, evidently and exact scipy: CPU seconds, peak memory, errors (fifteen minutes)
	python benchmarks/drift.py

export: env ## nbs/**/*.ipynb -> failwb/**/*.py
	nbdev_clean
	nbdev_export

# What nbdev_clean and nbdev_export would write: one line of name and hash per file.
sources = git ls-files -co --exclude-standard -z -- nbs failwb | sort -zu | xargs -0 sha256sum

clean-check: env ## fail if nbdev_clean or nbdev_export changes a file
	@for step in nbdev_clean nbdev_export; do \
	  before=$$($(sources)); $$step; after=$$($(sources)); \
	  if [ "$$before" != "$$after" ]; then \
	    echo "$$step changed these files. Hint: commit them; edit notebooks, never failwb/*.py:" >&2; \
	    { diff <(echo "$$before") <(echo "$$after") || true; } | awk '/^[<>]/ { print "  " $$3 }' | sort -u >&2; exit 1; \
	  fi; echo "$$step: nothing to change"; \
	done

pipeline: evidence
	dvc repro
	@echo "dvc repro, again"; again=$$(dvc repro); \
	if grep '^Running stage' <<<"$$again" >&2; then echo "The second dvc repro ran stages; none may run." >&2; exit 1; fi; \
	echo "no stage ran"

evidence: env
	dvc pull data

reproducible: env evidence ## compare out/ byte by byte with that of a second clone, made by its own code
	dvc repro
	@other=$$(mktemp -d); trap 'rm -rf "$$other"' EXIT; here="$$PWD"; \
	[ -z "$$(git status --porcelain)" ] || echo "Note: the second clone holds the last commit; what is not committed is not in it." >&2; \
	git clone --quiet . "$$other/second clone"; cd "$$other/second clone"; export PYTHONPATH="$$PWD"; \
	used=$$(python -c 'import failwb, pathlib; print(pathlib.Path(failwb.__file__).parent.parent)'); \
	[ "$$used" = "$$(pwd -P)" ] || { echo "The second clone would run the code of $$used." >&2; exit 1; }; \
	dvc pull data; dvc repro -f; \
	cd "$$here"; failwb compare out "$$other/second clone/out"

reproducible-everywhere: env evidence ## the same with other threads, seeds, zones, languages, homes, users, and on an older CPU (half an hour)
	dvc repro
	@[ -z "$$(git status --porcelain)" ] || echo "Note: the clones hold the last commit; what is not committed is not in them." >&2
	python tests/conditions.py

sample: env ## the sample's evidence and ledger anew, as round 1 (maintainers)
	rm -rf data samples/remote
	find ledger -name '*.json' -delete
	failwb sample
	dvc add data
	dvc push data
	failwb run

## -- how the environment comes about

$(READY): settings.ini setup.py pyproject.toml constraints.txt
	@command -v '$(PYTHON)' >/dev/null || { echo "There is no $(PYTHON). Hint: make env PYTHON=/path/to/python3.11" >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11, which constraints.txt is for." >&2; exit 1; }
	test -x .venv/bin/python || '$(PYTHON)' -m venv .venv
	@echo "Installing into .venv: a few minutes the first time."
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	.venv/bin/python -m compileall -qq -j 0 .venv/lib/python3.11/site-packages || true  # packages ship a few files of other Pythons
	@touch '$@'

.peers/%/.ready: benchmarks/peers/%.txt
	test -x '.peers/$*/bin/python' || '$(PYTHON)' -m venv '.peers/$*'
	'.peers/$*/bin/python' -m pip install --quiet --disable-pip-version-check --no-deps -r '$<'
	env -u PYTHONPATH '.peers/$*/bin/python' -m pip check --disable-pip-version-check
	@touch '$@'

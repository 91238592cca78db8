# `make help` prints the lines that begin with two hash signs, with the target or variable below them.
# Written for GNU make 3.81 and up (macOS ships 3.81), and for paths with spaces: every path is relative, no file is a
# target. Variables count when they stand after `make`; names as common as DATA are not taken from the environment.

## optimizers: names in conf/optimizer/, torch.optim.NAdam, ./mine.py:MyOptimizer, ./mine.yaml; or all
OPT := adafisher,adam,kfac,shampoo
## the optimizer that versus compares with
VS := adamw
## tasks, by the names in conf/task/, a file as ./mine.py, all, or here: all whose data are there
TASK := digits,tinyshakespeare
## an experiment of conf/experiment/, which says what is tuned and run; OPT, TASK, SEEDS, TRIALS count where typed
EXPERIMENT :=
## seeds; each is a run of its own
SEEDS := 0,1,2
## epochs of each run; empty: the task's own number
EPOCHS :=
## runs side by side; the processor's cores and devices are divided among them
JOBS := 1
## how runs are started, by the names in conf/launcher/; empty: local for one job, joblib for several
LAUNCHER :=
## folder with the data sets that are not shipped
DATA := ./data
## folder of the run records
RUNS := runs
## folder that tables, figures and the report are written to
OUT := out
## further arguments, as they stand: Hydra overrides, or for test those of pytest
ARGS :=
## trials of each optimizer on each task; half of them coarse, the others around the best of these
TRIALS := 16
## id of one run
RUN :=
## name of one figure, or of one study; empty: all
FIG :=
## 1: run the studies that the figures lack first
RUN_MISSING :=
## 1: figures with serifs, as of Times
SERIF :=
## 1: figures of up to three panels as wide as half a text, 2.7 inches
HALF :=
## the Python to make .venv with; empty: the first of 3.11, 3.12 and 3.13 that runs; for gpu-check: python3
PYTHON :=

# The suite is run from this folder, and under this variable Python does not look here for modules.
unexport PYTHONSAFEPATH
# What is empty would be the root of the checkout, or nothing; what has a line break would be two commands.
define line_break


endef
$(foreach name,OPT VS TASK SEEDS DATA RUNS OUT TRIALS,$(if $(strip $($(name))),,\
  $(error error: $(name) is empty: give it a value, or leave it out)))
$(foreach name,OPT VS TASK EXPERIMENT SEEDS EPOCHS JOBS LAUNCHER DATA RUNS OUT ARGS TRIALS RUN FIG RUN_MISSING SERIF HALF PYTHON,\
  $(if $(findstring $(line_break),$($(name))),$(error error: $(name) has a line break: it must be one line)))

python := .venv/bin/python
pip := $(python) -m pip --disable-pip-version-check --no-input -qq

# $(call quote,text): one word for the shell, whatever is in it.
quote = '$(subst ','\'',$(1))'
# $(call override,key,text): the same for Hydra, in which commas, spaces and brackets have a meaning.
override = $(call quote,$(1)="$(subst ",\",$(2))")

grid = $(if $(experiment),$(experiment) $(call typed,seed,SEEDS),ruleset=tuned untuned=default $(methods) \
  $(call quote,seed=$(SEEDS))) $(folders) $(epochs) $(parallel) $(ARGS)
methods = $(call quote,optimizer=$(OPT)) $(call quote,task=$(TASK))
# $(call typed,key,NAME): a variable that was typed, so that it stands in place of what an experiment says.
typed = $(if $(findstring command,$(origin $(2))),$(call quote,$(1)=$($(2))))
experiment = $(if $(strip $(EXPERIMENT)),$(call quote,experiment=$(strip $(EXPERIMENT))) \
  $(call typed,optimizer,OPT) $(call typed,task,TASK))
folders = $(call override,data_dir,$(DATA)) $(call override,runs_dir,$(RUNS))
report = $(python) -m analysis.report --runs $(call quote,$(RUNS)) --out $(call quote,$(OUT))
look = $(if $(filter 1,$(SERIF)),--serif) $(if $(filter 1,$(HALF)),--half)
launcher = $(or $(strip $(LAUNCHER)),$(if $(filter-out 1,$(JOBS)),joblib))
parallel = $(if $(launcher),$(call quote,launcher=$(launcher)) $(call quote,jobs=$(JOBS)))
epochs = $(if $(strip $(EPOCHS)),$(call quote,budget.epochs=$(EPOCHS)))

tune = $(python) -m experiments tune $(if $(experiment),$(experiment) $(call typed,trials,TRIALS),$(methods) \
  $(call quote,trials=$(TRIALS))) $(folders) $(epochs) $(parallel) $(ARGS)
candidates = $(if $(PYTHON),$(call quote,$(PYTHON)),python3.11 python3.12 python3.13 python3 python)
is_supported := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
can_make_venv := import ensurepip, venv; $(is_supported)
can_install := import pip; $(is_supported)

.PHONY: help archive sweep plan status replay calibration report tables figures paper study tune versus data
.PHONY: publish wandb-sync bench bench-sweep bench-analysis gpu-check test quick lint type smoke setup clean .jobs

## Print this page. It needs no set-up.
help:
	@echo "usage: make TARGET [VARIABLE=value ...]       (from elsewhere: make -C FOLDER TARGET ...)"
	@awk '/^## / { doc[++n] = substr($$0, 4); next } \
	n && /^[A-Z_]+ :=/ { value = $$0; sub(/^[^=]*= */, "", value); \
	  variables = variables sprintf("  %-14s %s%s\n", $$1, doc[1], value == "" ? "" : " [" value "]") } \
	n && /^[a-z-]+:/ { name = $$0; sub(/:.*/, "", name); printf "\n  %-14s %s\n", name, doc[1]; \
	  for (i = 2; i <= n; i++) printf "  %-14s %s\n", "", doc[i] } \
	{ n = 0 } END { printf "\nVariables, with their default in brackets:\n\n%s", variables }' Makefile

## Run each optimizer on each task with each seed, then write tables, figures and the report.
## Runs that are done are skipped, those that were cut off go on where they were.
## Of an EXPERIMENT what it says is to be tuned is tuned first.
## Variables: OPT TASK EXPERIMENT SEEDS EPOCHS JOBS LAUNCHER DATA RUNS OUT ARGS
## Example:   make sweep OPT=adafisher,adam TASK=digits SEEDS=0 EPOCHS=5 JOBS=2
## Example:   make sweep EXPERIMENT=study_mnist RUNS=runs/study DATA=/path/to/data
## Example:   make sweep TASK=cifar10 DATA=/path/to/data ARGS='budget=steps budget.steps=30'
sweep: .jobs setup
	@$(if $(experiment),printf 'Sweep: %s.\n' $(experiment); $(tune),\
	  printf 'Sweep: %s on %s, seeds %s.\n' $(call quote,$(OPT)) $(call quote,$(TASK)) $(call quote,$(SEEDS)))
	@$(python) -m experiments.train --multirun $(grid); \
	status=$$?; \
	if [ $$status -eq 2 ]; then exit 2; fi; \
	$(report) || exit 1; \
	exit $$status

## Tell what `make sweep` with the same variables would run: how many are done, hours and disk, by method and task.
## `ARGS=each=true` lists every run.
## Variables: OPT TASK EXPERIMENT SEEDS EPOCHS JOBS LAUNCHER DATA RUNS ARGS
## Example:   make plan OPT=all TASK=digits
plan: .jobs setup
	@$(python) -m experiments plan $(grid) $(if $(experiment),untuned=default)

## Tell how the recorded runs stand: done, running, failed with the reason, stale.
## Variables: RUNS
## Example:   make status
status: setup
	@$(python) -m experiments status $(call override,runs_dir,$(RUNS))

## Compare the training times of finished budget=match_seconds runs with what they were given.
## Variables: RUNS
## Example:   make calibration
calibration: setup
	@$(python) -m experiments calibration $(call override,runs_dir,$(RUNS))

## Run a recorded run again from its folder, and compare every measurement.
## Variables: RUN DATA RUNS ARGS
## Example:   make replay RUN=00630c88e593
replay: setup
	@$(python) -m experiments replay $(call quote,run=$(RUN)) $(folders) $(ARGS)

## Write all tables, all figures and the report again, from the run records.
## Variables: RUNS OUT
## Example:   make report OUT=/tmp/out
report: setup
	@echo "Report: tables, figures and one page with all of them."
	@$(report)

## Write the tables only: CSV, Markdown, LaTeX and HTML.
## Variables: RUNS OUT
## Example:   make tables
tables: setup
	@echo "Tables from the run records."
	@$(report) --tables-only

## Write the figures only, as wide as a text of 5.5 inches: PDF, PNG and SVG. With RUN_MISSING=1 the
## studies that they lack (with FIG: that this one lacks) are run first (minutes).
## Variables: FIG RUN_MISSING SERIF HALF DATA RUNS OUT
## Example:   make figures FIG=loss_landscape RUN_MISSING=1
figures: setup
	@echo "Figures from the run records."
	@$(if $(filter 1,$(RUN_MISSING)),$(python) -m experiments study study=missing \
	  $(if $(strip $(FIG)),$(call quote,figure=$(strip $(FIG)))) $(folders))
	@$(report) --figures-only $(look) $(if $(strip $(FIG)),--only $(call quote,$(FIG)))

## Write the tables and figures as a LaTeX document, and compile it where a LaTeX is installed.
## Variables: SERIF HALF RUNS OUT
## Example:   make paper
paper: setup
	@echo "Paper: every table and figure as a LaTeX document."
	@$(python) -m analysis.report.paper --runs $(call quote,$(RUNS)) --out $(call quote,$(OUT)) $(look)

## Run the small measurements behind the figures that no comparison of methods gives.
## Variables: FIG DATA RUNS ARGS
## Example:   make study FIG=landscape
study: setup
	@$(python) -m experiments study $(call quote,study=$(or $(strip $(FIG)),all)) $(folders) $(ARGS)

## Write the records of RUNS, with the trials of their tuning, as compact text to OUT: a file a task, to be committed.
## `make report RUNS=<that folder>`, `status` and `replay` read it.
## Variables: RUNS OUT
## Example:   make archive RUNS=runs/study OUT=results/study
archive: setup
	@$(python) -m experiments archive $(call override,runs_dir,$(RUNS)) $(call override,out,$(OUT))

## Choose hyperparameters on the validation split, by as many trials for every optimizer; each
## trial is the worst of three seeds that no result is reported for.
## Variables: OPT TASK EXPERIMENT TRIALS EPOCHS JOBS LAUNCHER DATA RUNS ARGS
## Example:   make tune OPT=adafisher TASK=digits
## Example:   make tune OPT=adam TASK=digits TRIALS=24 ARGS='seeds=2000,2001 sampler=tpe startup=8'
tune: .jobs setup
	@$(if $(experiment),printf 'Tune: %s.\n' $(experiment),\
	  printf 'Tune: %s on %s, %s trials each.\n' $(call quote,$(OPT)) $(call quote,$(TASK)) $(call quote,$(TRIALS)))
	@$(tune)

## Tell in one sentence whether OPT is better than VS on TASK: both are tuned alike, then compared in the same training
## time (that of EPOCHS of VS) at 3, 5, 7 and 10 seeds. Fails where it is not better, or undecided: for exit codes that
## tell these apart, .venv/bin/python -m experiments versus.
## Variables: OPT VS TASK TRIALS EPOCHS JOBS LAUNCHER DATA RUNS ARGS
## Example:   make versus OPT=adafisher VS=adamw TASK=digits TRIALS=16 EPOCHS=20
versus: .jobs setup
	@$(python) -m experiments versus $(call quote,optimizer=$(OPT)) $(call quote,against=$(VS)) $(call quote,task=$(TASK)) \
	  $(call quote,trials=$(TRIALS)) $(if $(strip $(EPOCHS)),$(call quote,epochs=$(EPOCHS))) $(folders) $(parallel) $(ARGS)

## Fetch data sets. Each is shown first: size, terms, where from and where to. A download that broke off is
## resumed, what was fetched is verified, and what is there already is left alone.
## Variables: TASK DATA ARGS
## Example:   make data TASK=cifar10,cifar100 DATA=/path/to/data
data: setup
	@printf 'Data: %s.\n' $(call quote,$(TASK))
	@$(python) -m experiments data $(call quote,task=$(TASK)) $(call override,data_dir,$(DATA)) $(ARGS)

## Mirror every table, and every figure of `make figures`, of OUT to one report run of Weights & Biases.
## Variables: RUNS OUT ARGS
## Example:   make publish
publish: setup
	@$(python) -m experiments publish $(call override,out,$(OUT)) $(call override,runs_dir,$(RUNS)) $(ARGS)

## Upload what was mirrored offline to Weights & Biases; what is there already is left alone.
## Variables: RUNS
## Example:   make wandb-sync
wandb-sync: setup
	@$(python) -m experiments wandb_sync $(call override,runs_dir,$(RUNS))

## Measure costs as ratios to a peer in the same process; out/bench/ gets the numbers.
## Variables: OUT ARGS
## Example:   make bench ARGS='part=adafisher models=resnet18 batches=128,256 threads=2'
bench: setup
	@echo "Bench: ratios to a peer in the same process."
	@$(python) -m experiments bench $(call override,out,$(OUT)) $(ARGS)

## Measure what a sweep costs beside its training, in turn with the build of an earlier commit.
## Variables: OUT ARGS
## Example:   make bench-sweep ARGS='before=HEAD~20 rounds=3'
bench-sweep: setup
	@echo "Bench: sweeps of this build and of an earlier one."
	@$(python) -m experiments bench_sweep $(call override,out,$(OUT)) $(ARGS)

## Load and aggregate 10,000 made-up runs; fails beyond 20 seconds or 2 GB.
## Variables: ARGS
## Example:   make bench-analysis
bench-analysis: setup
	@$(python) -m analysis.report.bench $(ARGS)

## Run the tests marked gpu and then the benchmarks on an NVIDIA GPU, in eight minutes at most, and write all to
## out/bench/gpu.json. For a bare machine: without .venv, set-up and network, by PYTHON, which needs torch and pytest;
## what else it lacks is left out with the reason. `ARGS=--collect-only` needs no GPU and runs nothing.
## Variables: PYTHON OUT ARGS
## Example:   make gpu-check PYTHON=/path/to/python3.12
gpu-check:
	@$(call quote,$(or $(strip $(PYTHON)),python3)) tests/gpu_check.py --out $(call quote,$(OUT)) $(ARGS)

## Run the tests, without those marked slow or gpu.
## Variables: ARGS
## Example:   make test ARGS='-m slow'
test: setup
	@echo "Tests."
	@$(python) -m pytest $(ARGS)

## Run the tests that start no process, compile nothing and take a tenth of a second or less: within a minute on two
## cores, for while you write. `ARGS=--renew-costs` of test sees anew which those are (tests/support/costs.txt).
## Variables: ARGS
## Example:   make quick ARGS='-k tuning'
quick: setup
	@echo "Quick tests."
	@$(python) -m pytest --quick -q -n 2 $(ARGS)

## Check the format of the code and its style.
## Example:   make lint
lint: setup
	@echo "Format and style."
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .

## Check the types.
## Example:   make type
type: setup
	@echo "Types."
	@$(python) -m mypy

## Run each optimizer for two steps on both shipped tasks, in a folder that is removed afterwards.
## Variables: ARGS
## Example:   make smoke
smoke: setup
	@echo "Smoke: every optimizer, two steps."
	@folder=`mktemp -d` || exit 1; \
	trap 'rm -rf "$$folder"' EXIT; trap 'exit 130' INT TERM; \
	$(python) -m experiments.train --multirun optimizer=all task=digits,tinyshakespeare seed=0 \
	  budget=steps budget.steps=2 tracking=none runs_dir="\"$$folder\"" $(parallel) $(ARGS)

# The record of a finished set-up, .venv/installed, holds what was installed and where: a fresh checkout changes the
# times of its files, and never their text. .venv/unfinished marks a set-up that runs or was cut off. pip is trusted
# to leave whole packages when it fails, not when it is killed: then .venv is made anew. The interpreter is removed
# first, so that a removal that is itself cut off is seen. The build takes setuptools from constraints.txt.

## Make .venv and install into it. The targets above do so themselves, once.
## Variables: PYTHON
## Example:   make setup PYTHON=/path/to/python3.12
setup:
	@wanted() { pwd -P; cat pyproject.toml constraints.txt; }; \
	passes() { "$$1" -c "$$2" >/dev/null 2>&1; }; \
	remove() { echo "$$1: making .venv again."; rm -f .venv/bin/python*; rm -rf .venv; }; \
	if [ -f .venv/unfinished ]; then \
	  process=`cat .venv/unfinished`; \
	  if ps -ww -p "$$process" -o args= 2>/dev/null | grep -q .venv/unfinished; then \
	    echo "error: .venv is being set up by another make (process $$process); wait for it, then try again." >&2; \
	    exit 1; \
	  fi; \
	  remove "The last set-up was cut off"; \
	elif [ -d .venv ] && ! passes $(python) $(call quote,$(can_install)); then \
	  remove "The Python in .venv does not run (any more)"; \
	fi; \
	if wanted | cmp -s - .venv/installed 2>/dev/null; then exit 0; fi; \
	if [ ! -d .venv ]; then \
	  found=; \
	  for candidate in $(candidates); do \
	    if passes "$$candidate" $(call quote,$(can_make_venv)); then \
	      found=$$candidate; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    printf 'error: no Python 3.11 to 3.13 that runs and has venv (Debian: python3-venv) is among: %s. %s\n' \
	      $(call quote,$(strip $(candidates))) "Name one: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making .venv with $$found."; \
	  mkdir .venv && echo $$$$ > .venv/unfinished && "$$found" -m venv .venv || exit 1; \
	fi; \
	echo "Installing into .venv (about 6 GB the first time, which takes minutes)."; \
	echo $$$$ > .venv/unfinished || exit 1; \
	$(pip) install -c constraints.txt pip setuptools && \
	$(pip) install -c constraints.txt --no-build-isolation -e '.[suite,dev]' && \
	wanted > .venv/installing && mv -f .venv/installing .venv/installed; \
	status=$$?; \
	rm -f .venv/unfinished; \
	if [ $$status -ne 0 ]; then echo "error: the install failed; the next make tries again." >&2; fi; \
	exit $$status

## Remove what can be made again: out/ and caches. It never touches run records, data or .venv.
## Example:   make clean
clean:
	@echo "Clean: removing out/ and caches; run records, data and .venv stay."
	@rm -rf out multirun outputs build dist adafisher.egg-info \
	  .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find adafisher analysis experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +

.jobs:
	@case $(call quote,$(JOBS)) in ''|0*|*[!0-9]*) \
	  printf 'error: JOBS=%s: must be a whole number of at least 1.\n' $(call quote,$(JOBS)) >&2; exit 2;; \
	esac

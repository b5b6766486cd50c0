# One command each; every target sets up what it needs on a machine that has only Python 3.10+ and make.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
RUN := $(VENV)/bin/python
# Two processes of one thread each: a file's tests stay together, and numbers do not depend on the machine's cores.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist loadfile

.PHONY: demo test test-slow test-comfyui test-comfyui-slow study bench clean

demo: $(VENV)/.ready
	$(RUN) -m det_core transfer --video det_core/models/embedded/demo_source.mp4 --caption "a red circle on a navy plain background" \
	  --prompt "a green star on a teal striped background" \
	  --prompt "a yellow square on a purple checkered background" \
	  --prompt "a cyan triangle on a maroon gradient background" \
	  --seed 0 1 --guide beside --out demo_output

test: $(VENV)/.ready-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(PYTEST)

# Kills, gates, fuzzing: what takes minutes.
test-slow: $(VENV)/.ready-test
	$(PYTEST) -m slow

# A real ComfyUI server and a real browser; needs a ComfyUI tree at COMFYUI_PATH (default ~/comfy/ComfyUI).
test-comfyui:
	$(PYTHON) tests/comfy/environment.py
	.venv-comfyui/bin/python -m pytest -q tests/comfy

# Forty prompts in a row cancelled, sixty servers killed.
test-comfyui-slow:
	$(PYTHON) tests/comfy/environment.py
	.venv-comfyui/bin/python -m pytest -q tests/comfy -m slow

# The measurements behind docs/measured/study.md; continues where it was stopped (about 90 minutes on 2 idle cores). A glance at all
# of it in some minutes: make study STUDY=--quick; the motions that nothing was tuned on: STUDY=--untuned
study: $(VENV)/.ready-bench
	$(RUN) tests/benchmarks/study.py --out runs/study $(STUDY)

# Speed and memory against the method as it reads; on a CPU small shapes (docs/measured/performance.md).
bench: $(VENV)/.ready
	$(RUN) tests/benchmarks/bench_performance.py

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --disable-pip-version-check "$(TORCH)"
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.ready-bench: $(VENV)/.ready requirements-bench.txt
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements-bench.txt
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready requirements-test.txt requirements-bench.txt
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements-test.txt
	touch $@

clean:
	rm -rf $(VENV) demo_output

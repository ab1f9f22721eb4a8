# make serve    set up what is needed and guard the embedded demo; make serve ARGS="--camera 0" guards a camera
# make test     set up what the tests need and run them all
# Both use one virtual environment, .venv, where the checkout is installed editable. Delete it at any time: make clean.

PYTHON ?= python3
ARGS ?=
PYTEST_ARGS ?=
PYTHONS ?=
WHEEL ?=
# A file's tests share what is made for them (databases, trained networks), so that a file stays on one worker.
# In the order of tests/conftest.py: files with slow tests first, so that no worker is left alone with one at the end.
PYTEST_WORKERS ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# The tests of the rooms that pyproject.toml names under [tool.coverage.run].
COVERED := tests/test_screening.py tests/test_screening_setup.py tests/decision tests/bundle tests/sinks
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
# What an install depends on: these decide what is compiled and which packages come with it.
INSTALLED_FROM := pyproject.toml constraints.txt $(shell find CMakeLists.txt runtime -type f)
# Debian packages of the tests: a browser for the live page; an RTSP server and files of many codecs for the sources;
# strace, to see that nothing is sent or kept unasked; openssl, to check a signature by other means; an MQTT broker;
# systemd, whose tools check the unit.
DEBIAN_PACKAGES := chromium ffmpeg gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base \
	gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly strace openssl mosquitto systemd
# A compiler for aarch64 and what runs its programs elsewhere; cmake comes with the 'dev' extra.
AARCH64_PACKAGES := g++-aarch64-linux-gnu qemu-user-static
NEEDS := Debian, Ubuntu, JetPack: apt-get install python3 python3-venv python3-dev g++ make

.DEFAULT_GOAL := help
.PHONY: help serve test unit-test mlserver coverage mutation lint docs format native-test cuda-test cuda-check gpu-check gpu-pack gpu-there aarch64-test bench bundle bundle-install wheel wheels sbom clean debian-packages aarch64-packages
# A recipe that fails leaves no stamp behind.
.DELETE_ON_ERROR:

help:  ## this list
	@echo "make TARGET [PYTHON=python3] [ARGS='...']"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

serve: $(VENV)/.edge  ## guard the embedded demo, or what ARGS names: make serve ARGS="--camera 0"
	@exec $(BIN)/firewall serve $(ARGS)

test: lint native-test cuda-test aarch64-test coverage unit-test  ## everything: linters, types, native tests (sanitizers, aarch64), pytest

ifneq ($(filter test,$(MAKECMDGOALS)),)
# The linters keep one core busy, so the compilers run beside them. pytest comes after both and takes all cores.
MAKEFLAGS += --jobs=2
unexport MAKEFLAGS  # else a make that a test or a build starts would ask this one for its jobs
coverage: | lint native-test cuda-test aarch64-test
unit-test: | coverage
debian-packages: | aarch64-packages  # one apt-get at a time
endif

unit-test: $(VENV)/.dev debian-packages mlserver  ## pytest alone: make unit-test PYTEST_ARGS="-k policy"
	$(BIN)/python -m pytest $(PYTEST_WORKERS) $(if $(filter test,$(MAKECMDGOALS)),$(COVERED:%=--ignore=%)) $(PYTEST_ARGS)

# A model server for the gate's tests. Its versions of Starlette and protobuf are not ours, so it stands beside .venv.
mlserver: | $(VENV)/.dev  ## MLServer in build/mlserver, for the tests of the gate
	@cmp -s tests/gate/mlserver_model/requirements.txt build/mlserver/.installed || { \
		echo "Installing MLServer into build/mlserver, for the tests of the gate ..." >&2; \
		rm -rf build/mlserver && mkdir -p build && $(BIN)/python -m venv build/mlserver && \
		PIP_DISABLE_PIP_VERSION_CHECK=1 build/mlserver/bin/python -m pip install -qq --only-binary=:all: \
			-r tests/gate/mlserver_model/requirements.txt && \
		cp tests/gate/mlserver_model/requirements.txt build/mlserver/.installed; } || { \
		echo "Not installed: MLServer. Skipped without it: the tests of the gate with a real upstream." >&2; \
		$(if $(CI)$(filter mlserver,$(MAKECMDGOALS)),exit 1,exit 0); }

# Part of `make test`, which leaves these tests out of unit-test then: none runs twice.
coverage: $(VENV)/.dev debian-packages  ## every line and branch of screening, decision, bundle and sinks is run by their own tests
	$(BIN)/python -m pytest $(PYTEST_WORKERS) $(COVERED) --cov --cov-report=term

# No part of `make test`. See docs/mutation.md.
mutation: $(VENV)/.dev  ## change each line of decision and screening: does a test notice? make mutation ARGS="firewall.decision.policy*"
	@$(PIP) install -qq -c constraints.txt mutmut
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.mutated $(ARGS)

lint: $(VENV)/.dev  ## ruff, mypy --strict, import rules, clang-format, generated tables, the docs site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@git ls-files -- '*.cpp' '*.hpp' '*.h' '*.cu' '*.cuh' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/python benchmarks/tables.py --check
	@$(docs)

docs: $(VENV)/.dev  ## build the docs site, strictly, into build/site
	@$(docs)
	@echo "build/site/index.html"

format: $(VENV)/.dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

native-test: $(VENV)/.dev  ## the C++ tests, plain and under the address and undefined-behaviour sanitizers
	@$(call native_test,build/native,)
	@$(call native_test,build/native-sanitized,address$(comma)undefined)

# Part of `make test`: one GPU's code, to know that it compiles; native-test has run the same kernels on the processor.
cuda-test: $(VENV)/.dev
	@if command -v "$(NVCC)" >/dev/null; then $(call cuda_build,build/cuda-test,90-real,firewall_cuda) && \
		echo "The CUDA kernels compile (make cuda-check: for all GPUs)"; \
	else echo "Not compiled: the CUDA kernels, since nvcc was not found (also in CI no failure: no package that make could install has it)" >&2; fi

cuda-check: $(VENV)/.dev  ## compile the CUDA kernels for all GPUs; needs nvcc, but no GPU
	@$(need_nvcc) && $(call cuda_build,build/cuda-check,,all)
	@$(BIN)/ctest --test-dir build/cuda-check -R cuda --output-on-failure --no-tests=error

gpu-check: gpu-there $(VENV)/.dev  ## on a machine with an NVIDIA GPU: compare it with the processor, compute-sanitizer, benchmark
	@$(PIP) install -qq -c constraints.txt -e '.[dev]' -C cmake.define.FIREWALL_CUDA=ON
	$(BIN)/python benchmarks/gpu/check.py --out build/gpu-check $(ARGS)

# For a machine that has no network: see benchmarks/gpu/pack.py. WHEEL adds another wheel.
gpu-pack: $(VENV)/.dev  ## what a bare machine needs for benchmarks/gpu/check.py, into .gpu-pack: make gpu-pack [WHEEL=FILE]
	@$(need_nvcc) && $(call cuda_build,build/gpu-pack,90-real,gpu_parity)
	@$(BIN)/python benchmarks/gpu/pack.py --parity build/gpu-pack/tests/native/gpu_parity $(if $(WHEEL),--wheel "$(WHEEL)") $(ARGS)

# Before anything is installed for it. Drivers of graphics cards, of Jetsons and of WSL.
gpu-there:
	@$(need_nvcc)
	@ls /dev | grep -q -e '^nvidiactl$$' -e '^nvgpu' -e '^nvhost-gpu$$' -e '^dxg$$' || \
		{ echo "make: this machine has no NVIDIA GPU, or no driver for it: nothing like /dev/nvidiactl" >&2; exit 1; }

# On an aarch64 machine native-test is that. Elsewhere `make test` goes on without what is missing; asked for by name, or
# in CI (CI=...), it is an error.
aarch64-test: $(VENV)/.dev aarch64-packages  ## the C++ tests for aarch64, cross-compiled and emulated (installs both on Debian)
	@if [ "$$(uname -m)" = aarch64 ]; then exit 0; fi; \
	if command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64-static >/dev/null; then \
		PATH="$(abspath $(BIN)):$$PATH" tests/native/aarch64.sh build/aarch64; \
	else \
		echo "Left out: the native tests for aarch64 ($(AARCH64_PACKAGES) are not installed)." >&2; \
		$(if $(CI)$(filter aarch64-test,$(MAKECMDGOALS)),exit 1,exit 0); \
	fi

bench: $(VENV)/.edge  ## latency of a verdict on this machine: make bench ARGS="--json bench.json"
	@exec $(BIN)/firewall bench $(ARGS)

bundle: $(VENV)/.dev  ## the default bundle from the data, hours, goes on: make bundle DATA=DIR OUTLIERS=PATH SCENES=PACK (docs/rebuild.md)
	@exec $(BIN)/python recipes/default_bundle/make.py $(if $(DATA),--data "$(DATA)") $(if $(OUTLIERS),--outliers "$(OUTLIERS)") \
		$(if $(SCENES),--scenes "$(SCENES)") $(if $(WORK),--work "$(WORK)") $(ARGS)

bundle-install: $(VENV)/.dev  ## put the bundle that 'make bundle' finished in the place of the shipped one
	@exec $(BIN)/python recipes/default_bundle/make.py --install $(if $(WORK),--work "$(WORK)") $(ARGS)

wheel: $(VENV)/.edge  ## dist/perception_firewall-*.whl
	$(PIP) wheel -qq --no-deps --wheel-dir dist .

wheels: $(VENV)/.dev aarch64-packages  ## x86-64 and aarch64 wheels in dist/: make wheels PYTHONS="python3.10 python3.12"
	@exec $(BIN)/python recipes/wheels.py $(PYTHONS)

sbom: $(VENV)/.dev  ## dist/*.cdx.json: a CycloneDX bill of materials of the newest wheel in dist/ (make wheels) and all it needs
	@$(PIP) install -qq -c constraints.txt cyclonedx-bom
	@exec $(BIN)/python recipes/sbom.py $(ARGS)

clean:  ## remove .venv and all that was built
	rm -rf $(VENV) build dist mutants .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- how the environment comes about ----------------------------------------------------------------------------------

$(VENV)/.python:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "make: '$(PYTHON)' was not found: install Python 3.10 or newer, or name yours with PYTHON=... ($(NEEDS))" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: $$("$(PYTHON)" --version 2>&1) is too old: Python 3.10 or newer is needed, name one with PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: '$(PYTHON)' can't make virtual environments: install its venv module ($(NEEDS))" >&2; exit 1; }
	@"$(PYTHON)" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || \
		{ echo "make: the headers of '$(PYTHON)' (Python.h) are missing; the native part needs them ($(NEEDS))" >&2; exit 1; }
	@for compiler in "$$CXX" c++ g++ clang++; do [ -n "$$compiler" ] && command -v $$compiler >/dev/null && exit 0; done; \
		echo "make: no C++ compiler was found; the native part needs one ($(NEEDS))" >&2; exit 1
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.edge: $(VENV)/.python $(INSTALLED_FROM)
	@echo "Installing the firewall into $(VENV) (a minute or two the first time) ..." >&2
	@$(PIP) install -qq -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.python $(INSTALLED_FROM)
	@echo "Installing the firewall, its lab and the test tools into $(VENV) (a few minutes the first time) ..." >&2
	@$(PIP) install -qq -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.edge $@

# As root on Debian they are installed; otherwise the tests that need one of them skip, and this says which. In CI
# (CI=...) such a test fails.
debian-packages:
	@$(call install,$(DEBIAN_PACKAGES),Skipped without them: browser tests (chromium)$(comma) RTSP tests (gir1.2-gst-*$(comma) \
		python3-gi$(comma) gstreamer1.0-*)$(comma) codec tests (ffmpeg)$(comma) tests of what is sent and kept (strace)$(comma) MQTT tests (mosquitto)$(comma) unit tests (systemd).)

aarch64-packages:
	@if [ "$$(uname -m)" = aarch64 ]; then exit 0; fi; $(call install,$(AARCH64_PACKAGES),)

comma := ,
docs = NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet
# $(1): packages; $(2): what is said where they are not installed
define install
	missing=; for package in $(1); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing what the tests need:$$missing ..." >&2; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq >/dev/null && apt-get install -qq -y --no-install-recommends $$missing >/dev/null && exit 0; \
		[ -z "$$CI" ] || { echo "make: apt-get could not install$$missing" >&2; exit 1; }; \
	fi; \
	[ -z "$(2)" ] || echo "Not installed:$$missing. $(2)" >&2
endef
NVCC := $(or $(CUDACXX),nvcc)
need_nvcc = { command -v "$(NVCC)" >/dev/null || \
	{ echo "make: nvcc was not found; install the CUDA toolkit, or name it: CUDACXX=/path/to/nvcc" >&2; exit 1; }; }
# $(1): folder; $(2): architectures, or nothing for all; $(3): target
define cuda_build
	mkdir -p $(1) && { \
	$(BIN)/cmake -S . -B $(1) -DCMAKE_BUILD_TYPE=Release -DFIREWALL_BUILD_TESTS=ON -DFIREWALL_CUDA=ON \
		$(if $(2),-DCMAKE_CUDA_ARCHITECTURES=$(2)) >$(1).log 2>&1 && \
	$(BIN)/cmake --build $(1) --parallel 2 --target $(3) >>$(1).log 2>&1 || { cat $(1).log >&2; exit 1; }; }
endef
# $(1): folder; $(2): sanitizers, or nothing
define native_test
	mkdir -p $(1) && \
	$(BIN)/cmake -S . -B $(1) -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFIREWALL_BUILD_TESTS=ON -DFIREWALL_SANITIZE=$(2) >$(1).log 2>&1 && \
	$(BIN)/cmake --build $(1) --parallel 2 >>$(1).log 2>&1 || { cat $(1).log >&2; exit 1; }; \
	$(BIN)/ctest --test-dir $(1) --output-on-failure --no-tests=error
endef

# make demo   sets everything up and matches photographs      make test   every check      make help   the rest
#
# The first of them makes a virtual environment in .venv. To use your own, with its torch:
#     make demo VENV=path/to/your/environment          (a folder with bin/python; for conda, VENV=$CONDA_PREFIX)
# To make .venv with another Python:
#     make demo PYTHON=python3.12

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0

bin := $(abspath $(VENV))/bin
python := $(bin)/python
pip := $(python) -m pip --disable-pip-version-check
stamps := $(abspath $(VENV))/.simplematch
sources := pyproject.toml setup.py CMakeLists.txt $(shell find csrc cmake -type f 2>/dev/null)
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2
FUZZ_SECONDS ?= 180
fuzz_compiler := $(if $(shell command -v clang++),clang++,g++)

interpreted := $(addprefix tests/test_,backends.py gradients.py golden.py edge_cases.py arguments.py operators.py)

.DEFAULT_GOAL := help
.NOTPARALLEL:  # pip can't install twice at once
.PHONY: help venv build demo picture test lint unit interpreter compile cpp fuzz bench test-gpu clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(stamps)/demo ## match keypoints between photographs, print how many are right, draw demo.png
	$(python) examples/photographs/demo.py --output demo.png

picture: $(stamps)/demo ## draw the picture of the README again
	$(python) examples/photographs/demo.py --output demo.png --small-copy docs/images/demo.png

test: lint unit interpreter compile cpp ## ruff, mypy and all tests, those of the Triton kernels without a GPU

lint: $(stamps)/test ## ruff, and mypy --strict on the package
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy --strict simplematch_kernels

unit: $(stamps)/test ## the tests, on the backends that run on this machine
	$(python) -m pytest tests --ignore tests/test_triton_compile.py

interpreter: $(stamps)/test ## the Triton kernels, run by Triton's interpreter on the CPU (a process of its own)
	TRITON_INTERPRET=1 $(python) -m pytest -n 2 $(interpreted)

compile: $(stamps)/test ## the Triton kernels, compiled for every supported GPU; needs none
	$(python) -m pytest tests/test_triton_compile.py

cpp: $(stamps)/cmake ## the C and C++ library: its tests, programs built against it once installed, and fuzzing for seconds
	$(bin)/cmake -S . -B build/cpp -G Ninja -DCMAKE_MAKE_PROGRAM="$(bin)/ninja" -DSIMPLEMATCH_TESTS=ON
	$(bin)/cmake --build build/cpp
	$(bin)/ctest --test-dir build/cpp --output-on-failure
	$(MAKE) fuzz FUZZ_SECONDS=10 fuzz_compiler=g++

fuzz: $(stamps)/cmake ## feed the C interface wrong arguments for FUZZ_SECONDS, under sanitizers (libFuzzer with clang)
	$(bin)/cmake -S . -B build/fuzz-$(fuzz_compiler) -G Ninja -DCMAKE_MAKE_PROGRAM="$(bin)/ninja" \
	    -DCMAKE_CXX_COMPILER=$(fuzz_compiler) -DSIMPLEMATCH_FUZZ=ON -DSIMPLEMATCH_INSTALL=OFF
	$(bin)/cmake --build build/fuzz-$(fuzz_compiler)
	cd build/fuzz-$(fuzz_compiler) && tests/c/fuzz/fuzz_interface \
	    $(if $(findstring clang,$(fuzz_compiler)),-max_total_time=$(FUZZ_SECONDS) -max_len=512 -len_control=0 -timeout=30 -print_final_stats=1,$(FUZZ_SECONDS))

bench: $(stamps)/bench ## time and memory beside eager PyTorch and torch.compile
	$(python) -m benchmarks

test-gpu: ## for a machine with a GPU and no network: build in place, test on CUDA tensors, print a table of times
	$(PYTHON) setup.py build_ext --inplace
	$(PYTHON) -m pytest tests
	$(PYTHON) -m benchmarks --quick --no-save

venv: $(stamps)/torch ## a virtual environment with torch; one that has torch keeps it

build: $(stamps)/build ## compile and install the package, editable

clean: ## remove .venv and everything that was built
	rm -rf .venv build demo.png .mypy_cache .ruff_cache .pytest_cache ./*.egg-info
	find simplematch_kernels -name '_C*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(python):
	$(PYTHON) -m venv $(VENV)

# "torch" also holds the torch that was found, so that no later step replaces it.
$(stamps)/torch: | $(python)
	$(python) -c "import torch" 2>/dev/null || $(pip) install $(TORCH) $(TORCHVISION)
	mkdir -p $(stamps)
	$(python) -c "import torch; print('torch==' + torch.__version__)" > $@.part
	mv $@.part $@

$(stamps)/cmake: $(stamps)/torch
	$(pip) install --quiet 'cmake>=3.20' ninja
	touch $@

$(stamps)/build: $(stamps)/torch $(sources)
	$(pip) install --constraint $(stamps)/torch --editable .
	touch $@

# The packages of an extra, as the installed package lists them: naming the extra itself would build once more.
$(stamps)/demo $(stamps)/test $(stamps)/bench: $(stamps)/%: $(stamps)/build
	$(python) -c "from importlib.metadata import requires; \
	    print(*(r.split(';')[0] for r in requires('simplematch-kernels') if 'extra == \"$*\"' in r), sep='\n')" > $@.part
	$(pip) install --constraint $(stamps)/torch --requirement $@.part
	mv $@.part $@

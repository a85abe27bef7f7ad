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
packaged := $(sources) MANIFEST.in README.md $(shell find simplematch_kernels -name '*.py')
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2
export SIMPLEMATCH_CUDA ?= off  # the CUDA kernels take minutes to compile, and Triton has its own

interpreted := $(addprefix tests/test_,backends.py gradients.py golden.py edge_cases.py arguments.py operators.py)

.DEFAULT_GOAL := help
.NOTPARALLEL:  # pip can't install twice at once
.PHONY: help venv build demo picture test lint unit interpreter compile cpp wheel wheel-check sdist-check matrix hub bench
.PHONY: test-gpu clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(stamps)/demo ## match keypoints between photographs, print how many are right, draw demo.png
	$(python) examples/photographs/demo.py --output demo.png

picture: $(stamps)/demo ## draw the picture of the README again
	$(python) examples/photographs/demo.py --output demo.png --small-copy docs/images/demo.png

test: lint unit interpreter compile cpp wheel sdist-check ## ruff, mypy and all tests, those of the Triton kernels without a GPU

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

cpp: $(stamps)/torch ## the C++ library, installed under build/, and a program that links it
	$(pip) install --quiet 'cmake>=3.18' ninja
	$(bin)/cmake -S . -B build/cpp -G Ninja -DCMAKE_MAKE_PROGRAM="$(bin)/ninja" -DCMAKE_INSTALL_PREFIX="$(CURDIR)/build/prefix"
	$(bin)/cmake --build build/cpp
	$(bin)/cmake --install build/cpp
	$(bin)/cmake -S examples/cpp -B build/cpp-example -DCMAKE_PREFIX_PATH="$(CURDIR)/build/prefix"
	$(bin)/cmake --build build/cpp-example
	build/cpp-example/find_shift

wheel: build/wheel/built ## a wheel for other machines and an sdist in dist/, checked, and run on NumPy alone and beside torch
	$(python) tools/check_wheel.py dist/*.whl
	$(python) tools/matrix.py dist/*.whl none
	rm -rf build/wheel/site
	$(pip) install --quiet --no-deps --target build/wheel/site dist/*.whl
	PYTHONPATH="$(CURDIR)/build/wheel/site" $(python) tools/smoke_torch.py
	$(python) -m pytest tests/test_hub_layout.py

wheel-check: build/wheel/built ## the wheel in fresh environments: NumPy alone, and torch 2.13
	$(python) tools/check_wheel.py dist/*.whl
	$(python) tools/matrix.py dist/*.whl none 2.13.0

sdist-check: build/wheel/built ## the sdist installed without a compiler: pure Python, and it says so once
	$(python) tools/check_sdist.py dist/*.tar.gz

matrix: build/wheel/built ## the wheel beside every supported version of torch, each in a fresh environment
	$(python) tools/matrix.py dist/*.whl

hub: $(stamps)/test ## the layout that the kernels library of Hugging Face loads, in build/hub
	$(python) tools/hub_layout.py

bench: $(stamps)/bench ## time and memory beside eager PyTorch and torch.compile
	$(python) -m benchmarks

test-gpu: ## for a machine with a GPU and no network: build in place, test on CUDA tensors, print a table of times
	$(PYTHON) setup.py build_ext --inplace
	$(PYTHON) -m pytest tests
	$(PYTHON) -m benchmarks --quick --no-save

venv: $(stamps)/torch ## a virtual environment with torch; one that has torch keeps it

build: $(stamps)/build ## compile and install the package, editable

clean: ## remove .venv and everything that was built
	rm -rf .venv build dist demo.png .mypy_cache .ruff_cache .pytest_cache ./*.egg-info
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

$(stamps)/build: $(stamps)/torch $(sources)
	$(pip) install --constraint $(stamps)/torch --editable .
	touch $@

build/wheel/built: $(packaged) | $(stamps)/wheel
	rm -rf build/wheel dist
	$(python) -m build --outdir build/wheel .
	$(python) tools/repair_wheel.py build/wheel/*.whl dist
	cp build/wheel/*.tar.gz dist
	touch $@

# The packages of an extra, as the installed package lists them: naming the extra itself would build once more.
$(stamps)/demo $(stamps)/test $(stamps)/bench $(stamps)/wheel: $(stamps)/%: $(stamps)/build
	$(python) -c "from importlib.metadata import requires; \
	    print(*(r.split(';')[0] for r in requires('simplematch-kernels') if 'extra == \"$*\"' in r), sep='\n')" > $@.part
	$(pip) install --constraint $(stamps)/torch --requirement $@.part
	mv $@.part $@

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
packaged := $(sources) MANIFEST.in README.md $(shell find simplematch_kernels python -name '*.py')
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2
# The CUDA kernels take minutes to compile, and Triton has its own.
export SIMPLEMATCH_CUDA ?= off
FUZZ_SECONDS ?= 180
FUZZ_BACKEND ?= cpu
FUZZ_FIRST ?= 0

interpreted := $(addprefix tests/test_,backends.py gradients.py golden.py edge_cases.py extremes.py magnitudes.py fuzz.py arguments.py operators.py)
emulated := $(filter-out tests/test_operators.py,$(interpreted)) tests/system/training/test_backends.py
sanitizing_compiler = g++
fuzz: sanitizing_compiler := $(if $(shell command -v clang++),clang++,g++)
cmake = $(bin)/cmake -S . -G Ninja -DCMAKE_MAKE_PROGRAM="$(bin)/ninja" -DSIMPLEMATCH_CUDA=$(SIMPLEMATCH_CUDA)
cuda_objects = build/cuda/CMakeFiles/simplematch_cuda.dir/csrc/cuda/*.o

.DEFAULT_GOAL := help
.NOTPARALLEL:  # pip can't install twice at once
.PHONY: help venv build demo picture test lint unit interpreter compile cuda cuda-report emulated sanitized cpp fuzz fuzz-op wheel
.PHONY: wheel-check sdist-check matrix hub bench bench-gpu claims landmarks evaluations test-gpu gpu-build gpu-dry-run gpu clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(stamps)/demo ## match keypoints between photographs, print how many are right, draw demo.png
	$(python) examples/photographs/demo.py --output demo.png

picture: $(stamps)/demo ## draw the picture of the README again
	$(python) examples/photographs/demo.py --output demo.png --small-copy docs/images/demo.png

test: lint unit claims interpreter compile cuda emulated cpp wheel sdist-check ## ruff, mypy and all tests, those of the GPU kernels without a GPU

lint: $(stamps)/test ## ruff, and mypy --strict on both packages
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

unit: $(stamps)/test $(stamps)/cmake ## the tests, on the backends that run on this machine
	$(python) -m pytest -n 2 --dist worksteal tests --ignore tests/test_triton_compile.py

interpreter: $(stamps)/test ## the Triton kernels, run by Triton's interpreter on the CPU (a process of its own)
	TRITON_INTERPRET=1 $(python) -m pytest -n 2 --dist worksteal $(interpreted)

compile: $(stamps)/test ## the Triton kernels, compiled for every supported GPU; needs none
	$(python) -m pytest tests/test_triton_compile.py

cuda: $(stamps)/cmake ## the CUDA kernels, compiled for every supported GPU where nvcc is found; none may spill
	@if command -v nvcc; then $(MAKE) build/cuda/built; else echo "no nvcc here: the CUDA kernels are not compiled"; fi

cuda-report: cuda ## docs/cuda-kernels.md: registers, shared memory and occupancy of every CUDA kernel
	$(python) tools/kernel_report.py --markdown $(cuda_objects) > docs/cuda-kernels.md

build/cuda/built: $(sources) tools/kernel_report.py tests/c/check_symbols.py
	$(cmake) -B build/cuda -DSIMPLEMATCH_CUDA=on -DSIMPLEMATCH_INSTALL=OFF
	$(bin)/cmake --build build/cuda --target simplematch_cuda
	$(python) tools/kernel_report.py $(cuda_objects)
	$(python) tests/c/check_symbols.py objects $(cuda_objects)
	touch $@

emulated: sanitized $(stamps)/test ## the CUDA kernels, run by the CPU under sanitizers (a process of its own)
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
	    SIMPLEMATCH_MODULE="$$(ls $(CURDIR)/build/sanitized-g++/_C.*.so)" $(python) -m pytest -n 2 $(emulated)

cpp: $(stamps)/cmake sanitized ## the C and C++ library: its tests, programs built against it once installed, and fuzzing for seconds
	$(cmake) -B build/cpp -DSIMPLEMATCH_TESTS=ON
	$(bin)/cmake --build build/cpp
	$(bin)/ctest --test-dir build/cpp --output-on-failure
	$(bin)/ctest --test-dir build/sanitized-g++ --output-on-failure --exclude-regex symbols
	$(MAKE) fuzz FUZZ_SECONDS=10 sanitizing_compiler=g++

fuzz-op: $(stamps)/test ## random inputs of the operators for FUZZ_SECONDS: NaN, infinities, ties, extreme magnitudes; FUZZ_BACKEND
	$(python) -m tests.fuzzing.run --backend $(FUZZ_BACKEND) --seconds $(FUZZ_SECONDS) --first $(FUZZ_FIRST)

fuzz: sanitized ## feed the C interface wrong arguments for FUZZ_SECONDS, under sanitizers (libFuzzer with clang)
	cd build/sanitized-$(sanitizing_compiler) && tests/c/fuzz/fuzz_interface \
	    $(if $(findstring clang,$(sanitizing_compiler)),-max_total_time=$(FUZZ_SECONDS) -max_len=512 -len_control=0 -timeout=30 -print_final_stats=1,$(FUZZ_SECONDS))

sanitized: $(stamps)/cmake
	$(cmake) -B build/sanitized-$(sanitizing_compiler) -DCMAKE_CXX_COMPILER=$(sanitizing_compiler) -DSIMPLEMATCH_FUZZ=ON \
	    -DSIMPLEMATCH_TESTS=ON -DSIMPLEMATCH_CUDA=emulated -DSIMPLEMATCH_INSTALL=OFF -DSIMPLEMATCH_PYTHON=ON -DPython_EXECUTABLE=$(python) \
	    -DSIMPLEMATCH_OUTPUT=$(CURDIR)/build/sanitized-$(sanitizing_compiler)
	$(bin)/cmake --build build/sanitized-$(sanitizing_compiler)

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

bench: $(stamps)/bench $(stamps)/test ## ten minutes: every benchmark on this CPU, its claims, docs/benchmarks.md
	$(python) -m pytest benchmarks --durations=10 --save benchmarks/results
	$(python) -m benchmarks.report

# Where Landmarks-SPair and PF-WILLOW lie, and the file of DINOv2-S.
DATA ?= ../shared/data
DINOV2_S ?= ../shared/weights/dinov2_vits14_fp16.safetensors
RUNS ?= runs
simplematch = $(python) -m simplematch
spair = --dataset spair --root $(DATA)/Landmarks-SPair
willow = --dataset pf-willow --root $(DATA)/PF-WILLOW --codebase default,dift,simplematch

landmarks: $(stamps)/train ## two hours: train on Landmarks-SPair, evaluate, compare feature-map sizes, write docs/results.md
	mkdir -p results/landmarks results/willow
	$(simplematch) train --recipe landmarks-lite0-256 --root $(DATA)/Landmarks-SPair --output $(RUNS)/landmarks-lite0-256 \
	    --resume $(if $(wildcard $(RUNS)/landmarks-lite0-256/state/*/position.json),true,false)
	$(python) tools/landmarks.py curve $(RUNS)/landmarks-lite0-256 results/landmarks/training.json
	$(MAKE) evaluations
	$(simplematch) ablate feature-map-size $(DATA)/Landmarks-SPair $(RUNS)/feature-map-size --fields '{"epochs": 8, "lr_step_size": 5}'
	cp $(RUNS)/feature-map-size/table.json results/landmarks/feature-map-size.json
	$(python) tools/results_page.py

evaluations: $(stamps)/train ## what landmarks evaluates, once it has trained
	$(python) tools/landmarks.py ceiling $(DATA)/Landmarks-SPair results/landmarks/ceiling.json
	for annotations in image pair; do \
	    suffix=$$(test $$annotations = image || echo -pair); \
	    $(simplematch) eval $(spair) --annotations $$annotations --preset efficientnet-lite0-256-nn --output results/landmarks/nearest$$suffix.json && \
	    $(simplematch) eval $(spair) --annotations $$annotations --checkpoint $(RUNS)/landmarks-lite0-256/last \
	        --output results/landmarks/trained$$suffix.json || exit 1; \
	done
	$(simplematch) eval $(willow) --checkpoint $(RUNS)/landmarks-lite0-256/last --output results/willow/landmarks-lite0-256.json
	$(simplematch) eval $(willow) --preset efficientnet-lite0-448-nn --output results/willow/efficientnet-lite0-448-nn.json
	$(simplematch) eval $(willow) --preset dinov2-s14-448-nn --weights $(DINOV2_S) --output results/willow/dinov2-s14-448-nn.json

claims: $(stamps)/bench $(stamps)/test ## what is claimed of a training step's memory and, on a CPU, of the operator
	rm -f build/claims.json build/claims.jsonl
	$(python) -m pytest benchmarks/test_training_memory.py benchmarks/test_op.py::test_time_and_memory --scope quick --rounds 3 --save build/claims.json
	$(python) -m benchmarks.claims build/claims.json

# A machine with a GPU is lent for minutes, has no network, and may have no git. Everything is written to RESULTS.
# PART=2/4 is a part that ends within eight minutes. Without it the tests are a few of every kind, the benchmarks all.
RESULTS ?= benchmarks/results
PART ?=
CASES ?= 3
TESTS ?= tests --ignore tests/system --ignore tests/test_triton_compile.py --ignore tests/test_gpu_commands.py
BENCHMARKS ?= benchmarks
JOBS ?= $(shell nproc)
part = $(if $(PART),-$(subst /,of,$(PART)))
test-gpu bench-gpu: SHELL := bash

gpu-build: ## for a machine with a GPU and no network: build in place with all cores, the CUDA kernels too
	@nvidia-smi --query-gpu=compute_cap --format=csv,noheader > /dev/null || { echo "nvidia-smi must find a GPU here"; exit 1; }
	SIMPLEMATCH_CUDA=on SIMPLEMATCH_REQUIRE_NATIVE=1 CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) \
	    CUDAARCHS="$$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)" \
	    $(PYTHON) setup.py build_ext --inplace
	$(PYTHON) -c "from simplematch_kernels import _native; reason = _native.why_not_cuda(); assert reason is None, reason"

test-gpu: gpu-build ## tests on CUDA tensors in four minutes; PART=1/3 to 3/3: all of them
	mkdir -p $(RESULTS)
	set -o pipefail; OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(TESTS) \
	    -n $(JOBS) --dist worksteal $(if $(PART),--share $(PART),--cases $(CASES)) --junit-xml $(RESULTS)/tests$(part).xml \
	    2>&1 | tee $(RESULTS)/tests$(part).log

bench-gpu: gpu-build ## benchmarks on a GPU; PART=1/6 to 6/6: in parts of eight minutes
	mkdir -p $(RESULTS)
	set -o pipefail; $(PYTHON) -m pytest $(BENCHMARKS) --durations=20 --save $(RESULTS) $(if $(PART),--part $(PART) --minutes 7) \
	    2>&1 | tee $(RESULTS)/bench$(part).log

gpu-dry-run: $(stamps)/test ## ten minutes: the tests of test-gpu with a stub of a GPU, their kernels compiled for sm_90
	rm -rf build/gpu-dry-run
	SIMPLEMATCH_STUB_LOG=build/gpu-dry-run/kernels SIMPLEMATCH_STUB_COMPILE=1 \
	    $(python) -m pytest -p tests.gpu_stub.plugin $(TESTS) -n 2 --cases $(CASES)
	$(python) -m tests.gpu_stub.triton_driver build/gpu-dry-run/kernels

gpu: gpu-build ## the tests of a machine with a GPU, then the benchmarks, whatever became of the tests
	@$(MAKE) test-gpu; tests=$$?; $(MAKE) bench-gpu && exit $$tests

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

$(stamps)/cmake: $(stamps)/torch
	$(pip) install --quiet 'cmake>=3.20' ninja pybind11
	touch $@

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
$(stamps)/test: | $(stamps)/train  # whose packages the tests of the system use
$(stamps)/demo $(stamps)/test $(stamps)/train $(stamps)/bench $(stamps)/wheel: $(stamps)/%: $(stamps)/build
	$(python) -c "from importlib.metadata import requires; \
	    print(*(r.split(';')[0] for r in requires('simplematch-kernels') if 'extra == \"$*\"' in r), sep='\n')" > $@.part
	$(pip) install --constraint $(stamps)/torch --requirement $@.part
	mv $@.part $@

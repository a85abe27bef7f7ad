# make demo   sets everything up and matches photographs      make test   every check      make help   the rest
#
# The first command creates a virtual environment in .venv. To use your own, with its torch:
#     make demo VENV=path/to/your/environment          (a folder with bin/python; for conda, VENV=$CONDA_PREFIX)
# To create .venv with another Python:
#     make demo PYTHON=python3.12
VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
FUZZ_SECONDS ?= 180
FUZZ_BACKEND ?= cpu
FUZZ_FIRST ?= 0
CLONES ?= clones
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2
# The CUDA kernels take minutes to compile, and Triton has its own.
export SIMPLEMATCH_CUDA ?= off
# The module, the wheel's module and the C library share one compilation of the kernels.
export SIMPLEMATCH_BUILD ?= $(CURDIR)/build/cpp
bin := $(abspath $(VENV))/bin
python := $(bin)/python
pytest := $(python) -m pytest
# Threads that wait leave the cores to the other process.
parallel := OMP_WAIT_POLICY=passive $(pytest) -n 2 --dist worksteal
pip := $(python) -m pip --disable-pip-version-check
stamps := $(abspath $(VENV))/.simplematch
sources := pyproject.toml setup.py CMakeLists.txt $(shell find csrc cmake -type f 2>/dev/null)
cmake = PATH="$(bin):$$PATH" VIRTUAL_ENV="$(abspath $(VENV))" $(bin)/cmake
cuda_objects = build/cuda/CMakeFiles/simplematch_cuda.dir/csrc/cuda/*.o
interpreted := $(addprefix tests/test_,backends.py gradients.py golden.py edge_cases.py extremes.py magnitudes.py fuzz.py arguments.py operators.py)
beside := $(addprefix tests/test_,match_all.py pair_scores.py upsample.py details.py sparse_match_cross_entropy.py local_correlation.py image_sizes.py dense_match.py presets.py)
emulated := $(filter-out tests/test_operators.py,$(interpreted)) tests/system/training/test_backends.py tests/test_localize_layouts.py
emulation = LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
    SIMPLEMATCH_MODULE="$$(ls $(CURDIR)/build/sanitized/_C.*.so)"

.DEFAULT_GOAL := help
include tools/environment.mk tools/gpu.mk
.NOTPARALLEL:  # pip can't install twice at once
.PHONY: help demo picture test lint unit interpreter interpreter-beside compile cuda cuda-report sanitized sanitized-clang emulated cpp fuzz fuzz-op
.PHONY: integrations wheel wheel-check sdist-check matrix onnx-vectors hub bench claims landmarks evaluations calibration ablations venv build clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
demo: $(stamps)/demo ## match keypoints between photographs, print how many are right, draw demo.png
	$(python) examples/photographs/demo.py --output demo.png
picture: $(stamps)/demo ## draw the picture of the README again
	$(python) examples/photographs/demo.py --output demo.png --small-copy docs/images/demo.png
test: lint unit claims interpreter compile cuda emulated cpp wheel sdist-check ## run ruff, mypy and all tests; needs no GPU
lint: $(stamps)/test ## run ruff, and mypy --strict on both packages
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
unit: $(stamps)/test $(stamps)/cmake ## run the tests on the backends of this machine
	$(parallel) tests --ignore tests/test_triton_compile.py
interpreter: $(stamps)/test ## run the Triton kernels on the CPU, in Triton's interpreter (a separate process)
	TRITON_INTERPRET=1 $(parallel) $(interpreted)
	TRITON_INTERPRET=1 $(parallel) $(beside) -k "agree and triton and not (float64 or bfloat16 or float16)"
interpreter-beside: $(stamps)/test ## half an hour: all tests of the operators beside a match in Triton's interpreter
	TRITON_INTERPRET=1 $(parallel) $(beside)
compile: $(stamps)/test ## compile the Triton kernels for every supported GPU; needs none
	$(pytest) tests/test_triton_compile.py
cuda: $(stamps)/cmake ## compile the CUDA kernels for every supported GPU if nvcc is found; none may spill
	@if command -v nvcc; then $(MAKE) build/cuda/built; else echo "no nvcc here: the CUDA kernels are not compiled"; fi
cuda-report: cuda ## write docs/cuda-kernels.md: registers, shared memory and occupancy of every CUDA kernel
	$(python) tools/kernel_report.py --markdown $(cuda_objects) > docs/cuda-kernels.md
build/cuda/built: $(sources) tools/kernel_report.py tests/c/check_symbols.py
	$(cmake) --preset cuda && $(cmake) --build --preset cuda
	$(python) tools/kernel_report.py $(cuda_objects)
	$(python) tests/c/check_symbols.py objects $(cuda_objects)
	touch $@
sanitized sanitized-clang: $(stamps)/cmake
	$(cmake) --preset $@ -DPython_EXECUTABLE=$(python) && $(cmake) --build --preset $@
emulated: sanitized $(stamps)/test ## run the CUDA kernels on the CPU, under sanitizers (a separate process)
	$(emulation) $(parallel) $(emulated)
	$(emulation) $(parallel) $(beside) -k "agree and cuda"
cpp: $(stamps)/cmake sanitized ## test the C and C++ library: its tests, programs built against the installed library, seconds of fuzzing
	$(cmake) --preset cpp -DSIMPLEMATCH_CUDA=$(SIMPLEMATCH_CUDA) -DCMAKE_MAKE_PROGRAM=$(bin)/ninja && $(cmake) --build --preset cpp
	$(bin)/ctest --preset cpp
	$(bin)/ctest --preset sanitized
	cd build/sanitized && tests/c/fuzz/fuzz_interface 10
fuzz: $(if $(shell command -v clang++),sanitized-clang,sanitized) ## pass wrong arguments to the C interface for FUZZ_SECONDS, under sanitizers (libFuzzer with clang)
	cd build/$< && tests/c/fuzz/fuzz_interface $(if $(findstring clang,$<),-max_total_time=$(FUZZ_SECONDS) \
	    -max_len=512 -len_control=0 -timeout=30 -print_final_stats=1,$(FUZZ_SECONDS))
fuzz-op: $(stamps)/test ## run the operators on random inputs for FUZZ_SECONDS: NaN, infinities, ties, extreme magnitudes; FUZZ_BACKEND
	$(python) -m tests.fuzzing.run --backend $(FUZZ_BACKEND) --seconds $(FUZZ_SECONDS) --first $(FUZZ_FIRST)

wheel: build/wheel/built ## build a wheel for other machines and an sdist in dist/, check them, test the wheel with and without torch
	$(python) tools/check_wheel.py dist/*.whl
	$(python) tools/matrix.py dist/*.whl none
	rm -rf build/wheel/site
	$(pip) install --quiet --no-deps --target build/wheel/site dist/*.whl
	PYTHONPATH="$(CURDIR)/build/wheel/site" $(python) tools/smoke_torch.py
	$(pytest) tests/tools/test_hub_layout.py
wheel-check: build/wheel/built ## test the wheel in fresh environments: NumPy alone, and torch 2.13
	$(python) tools/check_wheel.py dist/*.whl
	$(python) tools/matrix.py dist/*.whl none 2.13.0
sdist-check: build/wheel/built ## install the sdist without a compiler: pure Python, with one warning
	$(python) tools/check_sdist.py dist/*.tar.gz
matrix: build/wheel/built ## test the wheel with every supported version of torch, each in a fresh environment
	$(python) tools/matrix.py dist/*.whl
build/wheel/built: $(sources) MANIFEST.in README.md $(shell find simplematch_kernels python -name '*.py' -o -path '*/static/*') | $(stamps)/wheel
	rm -rf build/wheel build/lib* build/bdist* dist
	$(python) -m build --sdist --wheel --outdir build/wheel .
	$(python) tools/repair_wheel.py build/wheel/*.whl dist
	cp build/wheel/*.tar.gz dist
	touch $@
onnx-vectors: $(stamps)/train $(stamps)/test ## minutes: run golden vectors and options through ONNX, write docs/onnx-vectors.json
	$(python) -m tests.onnx_vectors "$${SIMPLEMATCH_DATA:-../shared}" docs/onnx-vectors.json
hub: $(stamps)/test ## write the layout of Hugging Face's kernels library to build/hub
	$(python) tools/hub/layout.py

bench: $(stamps)/bench $(stamps)/test ## ten minutes: run every benchmark on this CPU, write docs/benchmarks.md with the claims
	$(pytest) benchmarks --durations=10 --save benchmarks/results
	$(python) -m benchmarks.report
claims: $(stamps)/bench $(stamps)/test ## check the claims about a training step's memory and, on a CPU, the operator
	rm -f build/claims.json build/claims.jsonl
	$(pytest) benchmarks/test_training_memory.py benchmarks/test_op.py::test_time_and_memory --scope quick --rounds 11 --save build/claims.json
	$(python) -m benchmarks.claims build/claims.json
integrations: $(stamps)/train $(stamps)/bench ## compare other codebases' functions with ours on their clones in CLONES, write docs/integrations.md
	$(python) tools/integrations.py $(CLONES)
landmarks: $(stamps)/train ## two hours: train on Landmarks-SPair, evaluate, compare feature-map sizes, write docs/results.md
	PYTHON=$(python) experiments/landmarks.sh
calibration: $(stamps)/train ## half an hour: calibrate the untrained matchers on photographs, measure on others, write docs/results.md
	$(python) experiments/calibration.py $(or $(DATA),../shared/data) $(or $(DINOV2_S),../shared/weights/dinov2_vits14_fp16.safetensors)
	$(python) experiments/results_page.py
evaluations: $(stamps)/train ## evaluate the finished run of landmarks
	PYTHON=$(python) experiments/landmarks.sh evaluate
ablations: $(stamps)/train ## three hours: the paper's Tables 7, 8 and 10 with EfficientNet-Lite0 on Landmarks-SPair
	PYTHON=$(python) experiments/landmarks.sh ablations $(ABLATION)

venv: $(stamps)/torch ## create a virtual environment with torch, or keep the torch that it has
build: $(stamps)/build ## compile and install the package, editable
clean: ## remove .venv and all build outputs
	rm -rf .venv build dist demo.png .mypy_cache .ruff_cache .pytest_cache ./*.egg-info
	find simplematch_kernels -name '_C*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

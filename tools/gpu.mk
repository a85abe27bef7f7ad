# For a GPU machine, possibly without network or git and for a limited time. PYTHON is its own; all results go to RESULTS.
# PART=2/4 runs a part that ends within eight minutes. Without PART, a few cases of every test run, or all benchmarks.
RESULTS ?= benchmarks/results
PART ?=
CASES ?= 3
TESTS ?= tests $(addprefix --ignore tests/,system benchmarks tools/test_gpu_commands.py test_triton_compile.py)
BENCHMARKS ?= benchmarks
JOBS ?= $(shell nproc)
part = $(if $(PART),-$(subst /,of,$(PART)))

.PHONY: gpu-build test-gpu bench-gpu gpu gpu-dry-run
test-gpu bench-gpu: SHELL := bash

gpu-build: ## on a GPU machine without network: build in place with all cores, CUDA kernels included
	@nvidia-smi --query-gpu=compute_cap --format=csv,noheader > /dev/null || { echo "nvidia-smi must find a GPU here"; exit 1; }
	SIMPLEMATCH_CUDA=on SIMPLEMATCH_REQUIRE_NATIVE=1 CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) \
	    CUDAARCHS="$$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)" \
	    $(PYTHON) setup.py build_ext --inplace
	$(PYTHON) -c "from simplematch_kernels import _native; reason = _native.why_not_cuda(); assert reason is None, reason"

test-gpu: gpu-build ## run tests on CUDA tensors in four minutes; PART=1/3 to 3/3: all of them
	mkdir -p $(RESULTS)
	set -o pipefail; OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(TESTS) -n $(JOBS) --dist worksteal $(if $(PART),--share $(PART),--cases $(CASES)) \
	    --junit-xml $(RESULTS)/tests$(part).xml 2>&1 | tee $(RESULTS)/tests$(part).log

bench-gpu: gpu-build ## run benchmarks on a GPU; PART=1/6 to 6/6: in parts of eight minutes
	mkdir -p $(RESULTS)
	set -o pipefail; $(PYTHON) -m pytest $(BENCHMARKS) --durations=20 --save $(RESULTS) $(if $(PART),--part $(PART) --minutes 7) \
	    2>&1 | tee $(RESULTS)/bench$(part).log

gpu: gpu-build ## run test-gpu, then bench-gpu, even if tests failed
	@$(MAKE) test-gpu; tests=$$?; $(MAKE) bench-gpu && exit $$tests

gpu-dry-run: $(stamps)/test ## ten minutes: run the tests of test-gpu with a stub of a GPU, compile their kernels for sm_90
	rm -rf build/gpu-dry-run
	SIMPLEMATCH_STUB_LOG=build/gpu-dry-run/kernels SIMPLEMATCH_STUB_COMPILE=1 \
	    $(pytest) -p tests.gpu_stub.plugin $(TESTS) -n 2 --cases $(CASES)
	$(python) -m tests.gpu_stub.triton_driver build/gpu-dry-run/kernels

// Where an operator runs: the one place that knows which devices there are. The C interface and the Python module both
// come through here, with arguments that they have checked.
#pragma once

#include "cpu/run.h"
#if defined(SIMPLEMATCH_HAS_CUDA)
#include "cuda/run.h"
#endif

namespace simplematch {

// Bytes of scratch memory that the caller of `run` gives.
template <class Problem>
int64_t workspace([[maybe_unused]] const Device& device, [[maybe_unused]] const Problem& problem) {
#if defined(SIMPLEMATCH_HAS_CUDA)
    if (device.kind == SIMPLEMATCH_CUDA) return cuda::workspace(problem, device);
#endif
    return 0;
}

template <class Problem, class Gradients>
int64_t workspace_backward([[maybe_unused]] const Device& device, [[maybe_unused]] const Problem& problem,
                           [[maybe_unused]] const Gradients& gradients) {
#if defined(SIMPLEMATCH_HAS_CUDA)
    if (device.kind == SIMPLEMATCH_CUDA) return cuda::workspace_backward(problem, gradients, device);
#endif
    return 0;
}

// (problem, result)
template <class... Arguments>
void run(const Device& device, const Arguments&... arguments) {
#if defined(SIMPLEMATCH_HAS_CUDA)
    if (device.kind == SIMPLEMATCH_CUDA) return cuda::run(arguments..., device);
#endif
    cpu::run(arguments..., device.threads);
}

// (problem, what the forward left, what arrives, gradients)
template <class... Arguments>
void run_backward(const Device& device, const Arguments&... arguments) {
#if defined(SIMPLEMATCH_HAS_CUDA)
    if (device.kind == SIMPLEMATCH_CUDA) return cuda::run_backward(arguments..., device);
#endif
    cpu::run_backward(arguments..., device.threads);
}

}  // namespace simplematch

// The Python module `_C`: the operators of run.h, with addresses, sizes and strides in, no torch. Whoever calls has
// checked the arguments. The GIL is released while an operator runs.
#include <cmath>
#include <tuple>
#include <utility>

#include "fields.h"
#include "run.h"

namespace simplematch::python {

namespace {

// An option or a device, which live longer than a call.
template <class Record>
void bind_record(py::module_& m, const char* name) {
    py::class_<Record>(m, name).def(py::init([](const py::kwargs& fields) { return record<Record>(fields); }));
}

// `allocate` (bytes) -> address of scratch memory that lives until the call is over; the CPU needs none.
void give_workspace(Device& device, int64_t bytes, const py::handle& allocate) {
    if (bytes == 0) return;
    device.workspace = address(allocate(bytes).ptr());
    device.workspace_bytes = bytes;
}

template <class Problem, class Result>
void bind_forward(py::module_& m, const char* name) {
    m.def(
        name,
        [](const py::handle& problem, const py::handle& result, const py::handle& device, const py::handle& allocate) {
            Device where = record<Device>(device);
            const Problem given = record<Problem>(problem);
            const Result into = record<Result>(result);
            give_workspace(where, workspace(where, given), allocate);
            const py::gil_scoped_release release;
            run(where, given, into);
        },
        py::arg("problem"), py::arg("result"), py::arg("device"), py::arg("allocate") = py::none());
}

template <class>
using Handle = py::handle;

// `Given`: what the forward left, if the backward reads it, and what arrives.
template <class Problem, class Gradients, class... Given>
void bind_backward(py::module_& m, const char* name) {
    m.def(name, [](const py::handle& problem, const Handle<Given>&... given, const py::handle& gradients,
                   const py::handle& device, const py::handle& allocate) {
        Device where = record<Device>(device);
        const Problem of = record<Problem>(problem);
        const Gradients wanted = record<Gradients>(gradients);
        const std::tuple<Given...> records{record<Given>(given)...};
        give_workspace(where, workspace_backward(where, of, wanted), allocate);
        const py::gil_scoped_release release;
        std::apply([&](const auto&... each) { run_backward(where, of, each..., wanted); }, records);
    });
}

py::dict codes() {
    using py::operator""_a;
    return py::dict("cpu"_a = int(SIMPLEMATCH_CPU), "cuda"_a = int(SIMPLEMATCH_CUDA),
                    "float32"_a = int(SIMPLEMATCH_FLOAT32), "float64"_a = int(SIMPLEMATCH_FLOAT64),
                    "bfloat16"_a = int(SIMPLEMATCH_BFLOAT16), "float16"_a = int(SIMPLEMATCH_FLOAT16),
                    "floor"_a = int(SIMPLEMATCH_FLOOR), "round"_a = int(SIMPLEMATCH_ROUND),
                    "bilinear"_a = int(SIMPLEMATCH_BILINEAR), "zeros"_a = int(SIMPLEMATCH_ZEROS),
                    "border"_a = int(SIMPLEMATCH_BORDER), "cosine"_a = int(SIMPLEMATCH_COSINE),
                    "dot"_a = int(SIMPLEMATCH_DOT), "l2"_a = int(SIMPLEMATCH_L2), "l1"_a = int(SIMPLEMATCH_L1),
                    "corner"_a = int(SIMPLEMATCH_CORNER), "half_pixel"_a = int(SIMPLEMATCH_HALF_PIXEL),
                    "align_corners"_a = int(SIMPLEMATCH_ALIGN_CORNERS), "square"_a = int(SIMPLEMATCH_SQUARE),
                    "plus"_a = int(SIMPLEMATCH_PLUS), "disc"_a = int(SIMPLEMATCH_DISC),
                    "closed_disc"_a = int(SIMPLEMATCH_CLOSED_DISC));
}

// The least and the largest number of a tensor (B, N, 2) or (B, N), float32 or float64; NaN if one is NaN.
template <class T>
std::pair<double, double> extremes_of(const View& x) {
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < x.size[0]; ++i)
        for (int64_t j = 0; j < x.size[1]; ++j)
            for (int64_t k = 0; k < x.size[2]; ++k) {
                const double value = static_cast<const T*>(x.data)[i * x.stride[0] + j * x.stride[1] + k * x.stride[2]];
                if (value != value) return {value, value};
                low = value < low ? value : low;
                high = value > high ? value : high;
            }
    return {low, high};
}

std::pair<double, double> extremes(const py::handle& tensor) {
    View view;
    read(tensor.ptr(), view);
    return view.dtype == SIMPLEMATCH_FLOAT64 ? extremes_of<double>(view) : extremes_of<float>(view);
}

// Why the CUDA kernels can't run here, or None.
py::object why_not_cuda() {
#if defined(SIMPLEMATCH_HAS_CUDA)
    const char* const reason = cuda::why_not();
    return reason == nullptr ? py::none() : py::object(py::str(reason));
#else
    return py::str("the compiled module was built without CUDA (reinstall with nvcc and SIMPLEMATCH_CUDA=on)");
#endif
}

}  // namespace
}  // namespace simplematch::python

PYBIND11_MODULE(_C, m) {
    using namespace simplematch;
    using namespace simplematch::python;
    m.doc() = "The compiled kernels of simplematch_kernels; _C.pyi describes it.";
    m.def("simd_level", &cpu::simd_level);
    m.def("why_not_cuda", &why_not_cuda);
    m.def("extremes", &extremes);
#if defined(SIMPLEMATCH_HAS_CUDA)
    m.attr("has_cuda") = true;
#else
    m.attr("has_cuda") = false;
#endif
#if defined(SIMPLEMATCH_EMULATED_CUDA)
    m.attr("emulates_cuda") = true;
#else
    m.attr("emulates_cuda") = false;
#endif
    m.attr("CODES") = codes();

    bind_record<Sampling>(m, "Sampling");
    bind_record<Metric>(m, "Metric");
    bind_record<Localization>(m, "Localization");
    bind_record<Device>(m, "Device");
    bind_record<Truth>(m, "Truth");

    bind_forward<MatchProblem, MatchResult>(m, "sparse_window_match");
    bind_backward<MatchProblem, MatchGradients, MatchResult, Upstream>(m, "sparse_window_match_backward");
    bind_forward<LocalizeProblem, Matches>(m, "localize");
    bind_backward<LocalizeProblem, LocalizeGradients, Matches, Upstream>(m, "localize_backward");
    bind_forward<GatherProblem, GatherResult>(m, "gather_keypoints");
    bind_backward<GatherProblem, GatherGradients, GatherUpstream>(m, "gather_keypoints_backward");
    bind_forward<SimilarityProblem, SimilarityResult>(m, "cosine_similarity");
    bind_backward<SimilarityProblem, SimilarityGradients, SimilarityResult, SimilarityUpstream>(
        m, "cosine_similarity_backward");
    bind_forward<MatchAllProblem, MatchAllResult>(m, "match_all");
    bind_backward<MatchAllProblem, MatchAllGradients, MatchAllResult, MatchAllUpstream>(m, "match_all_backward");
    bind_forward<PairProblem, PairResult>(m, "pair_scores");
    bind_backward<PairProblem, PairGradients, PairResult, PairUpstream>(m, "pair_scores_backward");
    bind_forward<CrossEntropyProblem, CrossEntropyResult>(m, "sparse_match_cross_entropy");
    bind_backward<CrossEntropyProblem, MatchGradients, CrossEntropyResult, CrossEntropyUpstream>(
        m, "sparse_match_cross_entropy_backward");
    bind_forward<NeighbourProblem, NeighbourResult>(m, "neighbour_products");
    bind_backward<NeighbourProblem, NeighbourGradients, NeighbourUpstream>(m, "neighbour_products_backward");
    bind_forward<UpsampledProblem, Matches>(m, "localize_upsampled");
    bind_backward<UpsampledProblem, UpsampledGradients, Matches, Upstream>(m, "localize_upsampled_backward");
    bind_forward<CorrelationProblem, CorrelationResult>(m, "local_correlation");
    bind_backward<CorrelationProblem, CorrelationGradients, CorrelationUpstream>(m, "local_correlation_backward");
}

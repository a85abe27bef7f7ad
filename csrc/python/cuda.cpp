// `_C.cuda`: the same functions on a GPU. In the place of a number of threads they take a device as
// (index, stream, allocate), where allocate(bytes) answers the address of a workspace on that device.
#include "convert.h"
#include "simplematch/cuda.h"

namespace simplematch::python {
namespace {

cuda::Device device(const py::tuple& t, int64_t workspace_bytes) {
    cuda::Device where;
    where.index = int(integer(py::object(t[0]).ptr()));
    where.stream = PyLong_AsVoidPtr(py::object(t[1]).ptr());
    if (workspace_bytes > 0) where.workspace = address(t[2](workspace_bytes).ptr());
    return where;
}

int index_of(const py::tuple& t) { return int(integer(py::object(t[0]).ptr())); }

void bind_match(py::module_& m) {
    m.def("sparse_window_match",
          [](const py::tuple& inputs, const py::tuple& row_arrays, const Sampling& sampling, const Metric& metric,
             const Localization& localization, int64_t kept_queries, int64_t score_budget, const py::tuple& where,
             const py::tuple& outputs) {
              const MatchProblem p =
                  match_problem(inputs, row_arrays, sampling, metric, localization, kept_queries, score_budget);
              const ForwardResult result = forward_result(outputs);
              const cuda::Device on = device(where, cuda::sparse_window_match_workspace(p, index_of(where)));
              const py::gil_scoped_release release;
              cuda::sparse_window_match(p, result, on);
          });
    m.def("sparse_window_match_backward",
          [](const py::tuple& inputs, const py::tuple& row_arrays, const Sampling& sampling, const Metric& metric,
             const Localization& localization, int64_t kept_queries, int64_t score_budget, const py::tuple& where,
             const py::tuple& forward, const py::tuple& upstream_views, const py::tuple& gradients) {
              const MatchProblem p =
                  match_problem(inputs, row_arrays, sampling, metric, localization, kept_queries, score_budget);
              const ForwardResult result = forward_result(forward);
              const Upstream arriving = upstream(upstream_views);
              const MatchGradients wanted = match_gradients(gradients);
              const cuda::Device on =
                  device(where, cuda::sparse_window_match_backward_workspace(p, wanted, index_of(where)));
              const py::gil_scoped_release release;
              cuda::sparse_window_match_backward(p, result, arriving, wanted, on);
          });
}

void bind_localize(py::module_& m) {
    m.def("localize", [](const py::handle& scores, const py::tuple& row_arrays, const py::handle& temperature,
                         const Localization& localization, const py::tuple& where, const py::tuple& outputs) {
        const LocalizeProblem p{view(scores), rows(row_arrays), view(temperature), localization};
        const Matches result = matches(outputs);
        const cuda::Device on = device(where, 0);
        const py::gil_scoped_release release;
        cuda::localize(p, result, on);
    });
    m.def("localize_backward",
          [](const py::handle& scores, const py::tuple& row_arrays, const py::handle& temperature,
             const Localization& localization, const py::tuple& where, const py::tuple& forward,
             const py::tuple& upstream_views, const py::handle& scores_gradient, const py::handle& temperature_gradient) {
              const LocalizeProblem p{view(scores), rows(row_arrays), view(temperature), localization};
              const Matches result = matches(forward);
              const Upstream arriving = upstream(upstream_views);
              const View for_scores = view(scores_gradient), for_temperature = view(temperature_gradient);
              const cuda::Device on = device(where, 0);
              const py::gil_scoped_release release;
              cuda::localize_backward(p, result, arriving, for_scores, for_temperature, on);
          });
}

void bind_gather(py::module_& m) {
    m.def("gather_keypoints", [](const py::handle& features, const py::handle& keypoints, const Sampling& sampling,
                                 const py::handle& descriptors, const py::tuple& where) {
        const View map = view(features), points = view(keypoints);
        void* const out = array<void>(descriptors);
        const cuda::Device on = device(where, 0);
        const py::gil_scoped_release release;
        cuda::gather_keypoints(map, points, sampling, out, on);
    });
    m.def("gather_keypoints_backward",
          [](const py::handle& gradient, const py::handle& features, const py::handle& keypoints, const Sampling& sampling,
             const py::handle& features_gradient, const py::handle& keypoints_gradient, const py::tuple& where) {
              const View arriving = view(gradient), map = view(features), points = view(keypoints);
              const View for_features = view(features_gradient), for_keypoints = view(keypoints_gradient);
              const cuda::Device on = device(where, 0);
              const py::gil_scoped_release release;
              cuda::gather_keypoints_backward(arriving, map, points, sampling, for_features, for_keypoints, on);
          });
}

void bind_similarity(py::module_& m) {
    m.def("cosine_similarity", [](const py::handle& descriptors, const py::handle& target, const Metric& metric,
                                  int64_t score_budget, const py::tuple& where, const py::handle& scores,
                                  const py::handle& norm) {
        const SimilarityProblem p{view(descriptors), view(target), metric, score_budget};
        void* const to = array<void>(scores);
        void* const norm_to = array<void>(norm);
        const cuda::Device on = device(where, cuda::cosine_similarity_workspace(p, index_of(where)));
        const py::gil_scoped_release release;
        cuda::cosine_similarity(p, to, norm_to, on);
    });
    m.def("cosine_similarity_backward",
          [](const py::handle& descriptors, const py::handle& target, const Metric& metric, int64_t score_budget,
             const py::tuple& where, const py::handle& gradient, const py::handle& scores, const py::handle& norm,
             const py::handle& descriptors_gradient, const py::handle& target_gradient) {
              const SimilarityProblem p{view(descriptors), view(target), metric, score_budget};
              const View arriving = view(gradient), for_descriptors = view(descriptors_gradient),
                         for_target = view(target_gradient);
              const void* const given = array<void>(scores);
              const void* const norm_given = array<void>(norm);
              const cuda::Device on = device(where, cuda::cosine_similarity_backward_workspace(p, index_of(where)));
              const py::gil_scoped_release release;
              cuda::cosine_similarity_backward(p, arriving, given, norm_given, for_descriptors, for_target, on);
          });
}

}  // namespace

void bind_cuda(py::module_& m) {
    py::module_ functions = m.def_submodule("cuda", "The CUDA kernels.");
#if defined(SIMPLEMATCH_EMULATED_CUDA)
    functions.attr("device_type") = "cpu";
#else
    functions.attr("device_type") = "cuda";
#endif
    functions.def("why_not", []() -> py::object {
        const char* const reason = cuda::why_not();
        return reason == nullptr ? py::none() : py::object(py::str(reason));
    });
    bind_match(functions);
    bind_localize(functions);
    bind_gather(functions);
    bind_similarity(functions);
}

}  // namespace simplematch::python

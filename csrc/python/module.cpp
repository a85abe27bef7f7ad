// The Python module `_C`: addresses, sizes and strides in, no torch. The GIL is released while a step runs.
#include "convert.h"

using namespace simplematch;
using namespace simplematch::python;

#if defined(SIMPLEMATCH_HAS_CUDA)
namespace simplematch::python {
void bind_cuda(py::module_& m);
}
#endif

PYBIND11_MODULE(_C, m) {
    m.doc() = "The compiled kernels of simplematch_kernels.";
    m.def("simd_level", &simd_level);

    py::class_<Sampling>(m, "Sampling").def(py::init([](const py::tuple& x, const py::tuple& y, int mode, bool border) {
        return Sampling{affine_map(x), affine_map(y), static_cast<SamplingMode>(mode), border};
    }));
    py::class_<Metric>(m, "Metric").def(py::init([](int kind, double eps, bool clamp_eps) {
        return Metric{static_cast<MetricKind>(kind), eps, clamp_eps};
    }));
    py::class_<Localization>(m, "Localization")
        .def(py::init([](int64_t height, int64_t width, bool shift, bool disc, double outside_value, double sigma,
                         double temperature, const py::tuple& x, const py::tuple& y, double output_offset) {
            return Localization{{height, width, shift, disc, outside_value, sigma}, temperature, affine_map(x),
                                affine_map(y), output_offset};
        }));

    m.def("sparse_window_match",
          [](const py::tuple& inputs, const py::tuple& row_arrays, const Sampling& sampling, const Metric& metric,
             const Localization& localization, int64_t kept_queries, int64_t score_budget, int threads,
             const py::tuple& outputs) {
              MatchProblem p = match_problem(inputs, row_arrays, sampling, metric, localization, kept_queries, score_budget);
              p.threads = threads;
              const ForwardResult result = forward_result(outputs);
              const py::gil_scoped_release release;
              sparse_window_match(p, result);
          });
    m.def("sparse_window_match_backward",
          [](const py::tuple& inputs, const py::tuple& row_arrays, const Sampling& sampling, const Metric& metric,
             const Localization& localization, int64_t kept_queries, int64_t score_budget, int threads,
             const py::tuple& forward, const py::tuple& upstream_views, const py::tuple& gradients) {
              MatchProblem p = match_problem(inputs, row_arrays, sampling, metric, localization, kept_queries, score_budget);
              p.threads = threads;
              const ForwardResult result = forward_result(forward);
              const Upstream arriving = upstream(upstream_views);
              const MatchGradients wanted = match_gradients(gradients);
              const py::gil_scoped_release release;
              sparse_window_match_backward(p, result, arriving, wanted);
          });
    m.def("localize", [](const py::handle& scores, const py::tuple& row_arrays, const py::handle& temperature,
                         const Localization& localization, int threads, const py::tuple& outputs) {
        const LocalizeProblem p{view(scores), rows(row_arrays), view(temperature), localization, threads};
        const Matches result = matches(outputs);
        const py::gil_scoped_release release;
        localize(p, result);
    });
    m.def("localize_backward",
          [](const py::handle& scores, const py::tuple& row_arrays, const py::handle& temperature,
             const Localization& localization, int threads, const py::tuple& forward, const py::tuple& upstream_views,
             const py::handle& scores_gradient, const py::handle& temperature_gradient) {
              const LocalizeProblem p{view(scores), rows(row_arrays), view(temperature), localization, threads};
              const Matches result = matches(forward);
              const Upstream arriving = upstream(upstream_views);
              const View for_scores = view(scores_gradient), for_temperature = view(temperature_gradient);
              const py::gil_scoped_release release;
              localize_backward(p, result, arriving, for_scores, for_temperature);
          });
    m.def("gather_keypoints", [](const py::handle& features, const py::handle& keypoints, const Sampling& sampling,
                                 const py::handle& descriptors, int threads) {
        const View map = view(features), points = view(keypoints);
        void* const out = array<void>(descriptors);
        const py::gil_scoped_release release;
        gather_keypoints(map, points, sampling, out, threads);
    });
    m.def("gather_keypoints_backward",
          [](const py::handle& gradient, const py::handle& features, const py::handle& keypoints, const Sampling& sampling,
             const py::handle& features_gradient, const py::handle& keypoints_gradient, int threads) {
              const View arriving = view(gradient), map = view(features), points = view(keypoints);
              const View for_features = view(features_gradient), for_keypoints = view(keypoints_gradient);
              const py::gil_scoped_release release;
              gather_keypoints_backward(arriving, map, points, sampling, for_features, for_keypoints, threads);
          });
    m.def("cosine_similarity", [](const py::handle& descriptors, const py::handle& target, const Metric& metric,
                                  int64_t score_budget, int threads, const py::handle& scores, const py::handle& norm) {
        const SimilarityProblem p{view(descriptors), view(target), metric, score_budget, threads};
        void* const to = array<void>(scores);
        void* const norm_to = array<void>(norm);
        const py::gil_scoped_release release;
        cosine_similarity(p, to, norm_to);
    });
    m.def("cosine_similarity_backward",
          [](const py::handle& descriptors, const py::handle& target, const Metric& metric, int64_t score_budget,
             int threads, const py::handle& gradient, const py::handle& scores, const py::handle& norm,
             const py::handle& descriptors_gradient, const py::handle& target_gradient) {
              const SimilarityProblem p{view(descriptors), view(target), metric, score_budget, threads};
              const View arriving = view(gradient), for_descriptors = view(descriptors_gradient),
                         for_target = view(target_gradient);
              const void* const given = array<void>(scores);
              const void* const norm_given = array<void>(norm);
              const py::gil_scoped_release release;
              cosine_similarity_backward(p, arriving, given, norm_given, for_descriptors, for_target);
          });

#if defined(SIMPLEMATCH_HAS_CUDA)
    simplematch::python::bind_cuda(m);
#endif
}

// The Python module `_C`: addresses, sizes and strides in, no torch. The GIL is released while a step runs.
//
// A tensor arrives as (address, dtype code, shape, strides), a contiguous array of known shape as its address, and
// None stands for a tensor that is not there. simplematch_kernels/native/ makes these from torch tensors.
#include <pybind11/pybind11.h>

#include "simplematch/cpu.h"

namespace py = pybind11;
using namespace simplematch;

namespace {

char empty_tensor;  // what an empty tensor points to: it has no address of its own, but it is there

int64_t integer(PyObject* x) {
    const int64_t value = PyLong_AsLongLong(x);
    if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
    return value;
}

void* address(PyObject* x) {
    void* const value = PyLong_AsVoidPtr(x);
    if (value == nullptr && PyErr_Occurred()) throw py::error_already_set();
    return value == nullptr ? &empty_tensor : value;
}

View view(const py::handle& tensor) {
    View v;
    PyObject* const t = tensor.ptr();
    if (t == Py_None) return v;
    if (!PyTuple_Check(t) || PyTuple_GET_SIZE(t) != 4) throw py::type_error("a tensor is (address, dtype, shape, strides)");
    v.data = address(PyTuple_GET_ITEM(t, 0));
    v.dtype = static_cast<DType>(integer(PyTuple_GET_ITEM(t, 1)));
    PyObject* const shape = PyTuple_GET_ITEM(t, 2);
    PyObject* const strides = PyTuple_GET_ITEM(t, 3);
    if (!PyTuple_Check(shape) || !PyTuple_Check(strides) || PyTuple_GET_SIZE(shape) > 4 ||
        PyTuple_GET_SIZE(shape) != PyTuple_GET_SIZE(strides))
        throw py::type_error("shape and strides are tuples of at most four integers");
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); ++i) {
        v.size[i] = integer(PyTuple_GET_ITEM(shape, i));
        v.stride[i] = integer(PyTuple_GET_ITEM(strides, i));
    }
    return v;
}

template <class T>
T* array(const py::handle& x) {
    return x.is_none() ? nullptr : static_cast<T*>(address(x.ptr()));
}

// (num_keypoints, valid, target_mask)
Rows rows(const py::tuple& t) { return {array<int64_t>(t[0]), array<uint8_t>(t[1]), array<uint8_t>(t[2])}; }

// (keypoints, score, peak, log_sum_exp, ...)
Matches matches(const py::tuple& t) {
    return {array<void>(t[0]), array<void>(t[1]), array<int64_t>(t[2]), array<void>(t[3])};
}

ForwardResult forward_result(const py::tuple& t) { return {matches(t), array<void>(t[4]), array<void>(t[5])}; }

Upstream upstream(const py::tuple& t) { return {view(t[0]), view(t[1]), view(t[2])}; }

// (source, keypoints, target, temperature) and the rest
MatchProblem match_problem(const py::tuple& inputs, const py::tuple& row_arrays, const Sampling& sampling,
                           const Metric& metric, const Localization& localization, int64_t kept_queries,
                           int64_t score_budget, int threads) {
    MatchProblem p;
    p.source = view(inputs[0]);
    p.keypoints = view(inputs[1]);
    p.target = view(inputs[2]);
    p.temperature = view(inputs[3]);
    p.rows = rows(row_arrays);
    p.sampling = sampling;
    p.metric = metric;
    p.localization = localization;
    p.kept_queries = kept_queries;
    p.score_budget = score_budget;
    p.threads = threads;
    return p;
}

AffineMap affine_map(const py::tuple& t) { return {integer(py::object(t[0]).ptr()), integer(py::object(t[1]).ptr()), integer(py::object(t[2]).ptr())}; }

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "The compiled CPU kernels of simplematch_kernels.";
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
              const MatchProblem p = match_problem(
                  inputs, row_arrays, sampling, metric, localization, kept_queries, score_budget, threads);
              const ForwardResult result = forward_result(outputs);
              const py::gil_scoped_release release;
              sparse_window_match(p, result);
          });
    m.def("sparse_window_match_backward",
          [](const py::tuple& inputs, const py::tuple& row_arrays, const Sampling& sampling, const Metric& metric,
             const Localization& localization, int64_t kept_queries, int64_t score_budget, int threads,
             const py::tuple& forward, const py::tuple& upstream_views, const py::tuple& gradients) {
              const MatchProblem p = match_problem(
                  inputs, row_arrays, sampling, metric, localization, kept_queries, score_budget, threads);
              const ForwardResult result = forward_result(forward);
              const Upstream arriving = upstream(upstream_views);
              const MatchGradients wanted{view(gradients[0]), view(gradients[1]), view(gradients[2]), view(gradients[3])};
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
}

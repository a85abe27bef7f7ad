// From Python's objects to the library's structs.
//
// A tensor arrives as (address, dtype code, shape, strides), a contiguous array of known shape as its address, and
// None stands for a tensor that is not there. simplematch_kernels/native/ makes these from torch tensors.
#pragma once

#include <pybind11/pybind11.h>

#include "simplematch/cpu.h"

namespace py = pybind11;

namespace simplematch::python {

inline char empty_tensor;  // what an empty tensor points to: it has no address of its own, but it is there

inline int64_t integer(PyObject* x) {
    const int64_t value = PyLong_AsLongLong(x);
    if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
    return value;
}

inline void* address(PyObject* x) {
    void* const value = PyLong_AsVoidPtr(x);
    if (value == nullptr && PyErr_Occurred()) throw py::error_already_set();
    return value == nullptr ? &empty_tensor : value;
}

inline View view(const py::handle& tensor) {
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
inline T* array(const py::handle& x) {
    return x.is_none() ? nullptr : static_cast<T*>(address(x.ptr()));
}

// (num_keypoints, valid, target_mask)
inline Rows rows(const py::tuple& t) { return {array<int64_t>(t[0]), array<uint8_t>(t[1]), array<uint8_t>(t[2])}; }

// (keypoints, score, peak, log_sum_exp, ...)
inline Matches matches(const py::tuple& t) {
    return {array<void>(t[0]), array<void>(t[1]), array<int64_t>(t[2]), array<void>(t[3])};
}

inline ForwardResult forward_result(const py::tuple& t) { return {matches(t), array<void>(t[4]), array<void>(t[5])}; }

inline Upstream upstream(const py::tuple& t) { return {view(t[0]), view(t[1]), view(t[2])}; }

// (source, keypoints, target, temperature) and the rest
inline MatchProblem match_problem(const py::tuple& inputs, const py::tuple& row_arrays, const Sampling& sampling,
                                  const Metric& metric, const Localization& localization, int64_t kept_queries,
                                  int64_t score_budget) {
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
    return p;
}

inline AffineMap affine_map(const py::tuple& t) {
    return {integer(py::object(t[0]).ptr()), integer(py::object(t[1]).ptr()), integer(py::object(t[2]).ptr())};
}

inline MatchGradients match_gradients(const py::tuple& t) { return {view(t[0]), view(t[1]), view(t[2]), view(t[3])}; }

}  // namespace simplematch::python

// From Python's objects to the records of simplematch.h, field by field of a name.
//
// A record arrives as a dictionary of its fields, or as an object of its class in `_C` where it has one; fields that are
// left out keep their defaults. A tensor arrives as (address, dtype code, shape, strides), a contiguous array of known
// shape as its address, and None stands for what is not there. simplematch_kernels/native/ makes these.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "common/defaults.h"

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

inline void read(PyObject* from, int64_t& to) { to = integer(from); }
inline void read(PyObject* from, int32_t& to) { to = int32_t(integer(from)); }
inline void read(PyObject* from, double& to) {
    to = PyFloat_AsDouble(from);
    if (to == -1 && PyErr_Occurred()) throw py::error_already_set();
}
template <class T>
void read(PyObject* from, T*& to) {
    to = from == Py_None ? nullptr : static_cast<T*>(address(from));
}

inline void read(PyObject* from, View& to) {
    to = kNotGiven;
    if (from == Py_None) return;
    if (!PyTuple_Check(from) || PyTuple_GET_SIZE(from) != 4)
        throw py::type_error("a tensor is (address, dtype, shape, strides)");
    to.data = address(PyTuple_GET_ITEM(from, 0));
    read(PyTuple_GET_ITEM(from, 1), to.dtype);
    PyObject* const shape = PyTuple_GET_ITEM(from, 2);
    PyObject* const strides = PyTuple_GET_ITEM(from, 3);
    if (!PyTuple_Check(shape) || !PyTuple_Check(strides) || PyTuple_GET_SIZE(shape) > 4 ||
        PyTuple_GET_SIZE(shape) != PyTuple_GET_SIZE(strides))
        throw py::type_error("shape and strides are tuples of at most four integers");
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); ++i) {
        read(PyTuple_GET_ITEM(shape, i), to.size[i]);
        read(PyTuple_GET_ITEM(strides, i), to.stride[i]);
    }
}

template <class Record>
void read(PyObject* from, Record& to);

// A field of a record: its name, and how it is set.
template <class Record>
struct Field {
    PyObject* name;  // interned, so that most names compare by address
    void (*set)(Record&, PyObject*);
};

template <class Member>
struct MemberOf;
template <class R, class V>
struct MemberOf<V R::*> {
    using Record = R;
};

// One line of a record's fields: field<&Window::height>("height").
template <auto member, class Record = typename MemberOf<decltype(member)>::Record>
Field<Record> field(const char* name) {
    return {PyUnicode_InternFromString(name), [](Record& record, PyObject* value) { read(value, record.*member); }};
}

template <class Record>
using Fields = std::vector<Field<Record>>;

template <class Record>
extern const Fields<Record> kFields;  // in fields.h, one line a field

template <class Record>
void set_field(Record& record, PyObject* name, PyObject* value) {
    for (const Field<Record>& field : kFields<Record>)
        if (field.name == name) return field.set(record, value);
    for (const Field<Record>& field : kFields<Record>)
        if (PyUnicode_Check(name) && PyUnicode_Compare(field.name, name) == 0) return field.set(record, value);
    throw py::type_error("a record has no field " + std::string(py::repr(name)));
}

template <class Record>
void read(PyObject* from, Record& to) {
    if (from == Py_None) return;
    if (!PyDict_Check(from)) {
        to = py::handle(from).cast<const Record&>();
        return;
    }
    PyObject *name = nullptr, *value = nullptr;
    Py_ssize_t position = 0;
    while (PyDict_Next(from, &position, &name, &value)) set_field(to, name, value);
}

template <class Record>
Record record(const py::handle& from) {
    Record made = kDefault<Record>;
    read(from.ptr(), made);
    return made;
}

}  // namespace simplematch::python

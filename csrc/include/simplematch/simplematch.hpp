// The C interface for C++17: a failure becomes an exception, a typed pointer becomes a tensor. Header only, so that the
// library exports nothing but C.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <type_traits>

#include "simplematch/simplematch.h"

namespace simplematch {

// A call that failed; what() is the library's sentence.
class Error : public std::runtime_error {
public:
    explicit Error(simplematch_status status) : std::runtime_error(simplematch_error_message()), status_(status) {}
    simplematch_status status() const noexcept { return status_; }

private:
    simplematch_status status_;
};

// check(simplematch_localize(...)): throws Error unless the call succeeded.
inline void check(simplematch_status status) {
    if (status != SIMPLEMATCH_OK) throw Error(status);
}

// float or double data of the given size, of at most four dimensions, with strides in elements, or in C order without.
// Inputs may be const: the library only reads them.
template <class T>
simplematch_tensor tensor(T* data, std::initializer_list<int64_t> size, std::initializer_list<int64_t> stride = {}) {
    using Number = typename std::remove_const<T>::type;
    static_assert(std::is_same<Number, float>::value || std::is_same<Number, double>::value,
                  "float and double have a type in C++; for float16 and bfloat16 fill simplematch_tensor by hand");
    if (size.size() > 4) throw std::invalid_argument("a tensor has at most four dimensions");
    if (stride.size() != 0 && stride.size() != size.size())
        throw std::invalid_argument("a tensor has as many strides as sizes");
    int64_t sides[4] = {1, 1, 1, 1};
    int i = 0;
    for (int64_t n : size) sides[i++] = n;
    simplematch_tensor t = simplematch_contiguous(
        const_cast<Number*>(data), std::is_same<Number, double>::value ? SIMPLEMATCH_FLOAT64 : SIMPLEMATCH_FLOAT32,
        sides[0], sides[1], sides[2], sides[3]);
    i = 0;
    for (int64_t n : stride) t.stride[i++] = n;
    return t;
}

}  // namespace simplematch

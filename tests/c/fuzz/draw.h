// A valid call drawn from the fuzzer's bytes, and the spoiling of its members.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "input.h"
#include "memory.h"

inline char somewhere;  // "given": the real address comes after the members were spoilt

// The members of a call that may be spoilt, by kind.
struct Members {
    std::vector<simplematch_tensor*> tensors;
    std::vector<std::function<void()>> addresses;  // each takes one away
    std::vector<int32_t*> codes;
    std::vector<int64_t*> integers;
    std::vector<double*> reals;
};

class Draw {
public:
    Draw(Input& in, Members& members) : in_(in), members_(members) {}

    void sizes() {
        batch = in_.below(8) == 0 ? 0 : 1 + in_.below(2);
        channels = in_.seldom() ? 64 + in_.below(10) : 1 + in_.below(9);
        queries = in_.below(8) == 0 ? 0 : 1 + in_.below(9);
        height = in_.seldom() ? 60 + in_.below(10) : 1 + in_.below(9);
        width = in_.seldom() ? 60 + in_.below(10) : 1 + in_.below(9);
        if (height * width > 1000) height = 3;
        if (channels > 60 && height * width > 100) channels = 7;
        features = int32_t(in_.below(4));
        arithmetic = features == SIMPLEMATCH_FLOAT64 ? SIMPLEMATCH_FLOAT64 : SIMPLEMATCH_FLOAT32;
    }

    // Any order of dimensions, with gaps and turned sides; sides that repeat their elements where nothing is written.
    simplematch_tensor tensor(int32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d, Role role) {
        simplematch_tensor t = {&somewhere, dtype, {a, b, c, d}, {0, 0, 0, 0}};
        int order[4] = {3, 2, 1, 0};
        if (in_.flip())
            for (int i = 3; i > 0; --i) std::swap(order[i], order[in_.below(i + 1)]);
        int64_t step = 1 + (in_.seldom() ? in_.below(3) : 0);
        for (int i : order) {
            t.stride[i] = in_.seldom() ? -step : step;
            step *= std::max<int64_t>(t.size[i], 1);
            if (in_.seldom()) step += in_.below(3);
            if (role == Role::input && in_.seldom()) t.stride[i] = 0;
        }
        return t;
    }
    void keep(simplematch_tensor& t) { members_.tensors.push_back(&t); }

    simplematch_tensor maybe(simplematch_tensor t) {
        if (in_.seldom()) t.data = nullptr;
        return t;
    }

    simplematch_affine affine() {
        simplematch_affine map = {in_.below(9) - 2, in_.below(5) - 2, 1 + in_.below(9)};
        if (in_.flip()) map = {1, 0, 1};
        return map;
    }
    void keep(simplematch_affine& map) {
        members_.integers.insert(members_.integers.end(), {&map.numerator, &map.shift, &map.denominator});
    }

    void sampling(simplematch_sampling& s) {
        s = {affine(), affine(), int32_t(in_.below(3)), int32_t(in_.below(2)), nullptr, int32_t(in_.below(3))};
        members_.codes.insert(members_.codes.end(), {&s.mode, &s.padding, &s.coordinates});
        keep(s.to_cells_x);
        keep(s.to_cells_y);
    }

    void metric(simplematch_metric& m) {
        m = {int32_t(in_.below(4)), int32_t(in_.below(2)), in_.flip() ? 1e-8 : double(in_.below(4))};
        members_.codes.insert(members_.codes.end(), {&m.kind, &m.clamp_eps});
        members_.reals.push_back(&m.eps);
    }

    int64_t side() { return in_.seldom() ? std::numeric_limits<int64_t>::max() - in_.below(9) : 1 + in_.below(12); }

    double diameter() { return in_.seldom() ? 0x1p62 : 1 + double(in_.below(40)) / 4; }

    void localization(simplematch_localization& l) {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        l.window = {side(), side(), int32_t(in_.below(2)), int32_t(in_.below(4)), diameter(), diameter(),
                    in_.flip() ? -infinity : double(in_.below(5)) - 2, in_.flip() ? 0.0 : double(in_.below(9)) / 2};
        l.temperature = 0.02 + double(in_.below(200)) / 50;
        l.from_cells_x = affine();
        l.from_cells_y = affine();
        l.output_offset = double(in_.below(9)) - 4;
        l.coordinates = int32_t(in_.below(3));
        l.second = {in_.flip() ? 0 : side(), side(), int32_t(in_.below(2)), int32_t(in_.below(4)), diameter(), diameter(), 0, 0};
        members_.integers.insert(members_.integers.end(), {&l.window.height, &l.window.width, &l.second.height, &l.second.width});
        members_.codes.insert(
            members_.codes.end(), {&l.window.shift, &l.window.shape, &l.second.shift, &l.second.shape, &l.coordinates});
        members_.reals.insert(
            members_.reals.end(), {&l.window.outside_value, &l.window.sigma, &l.temperature, &l.output_offset});
        for (simplematch_window* window : {&l.window, &l.second})
            members_.reals.insert(members_.reals.end(), {&window->disc_height, &window->disc_width});
        keep(l.from_cells_x);
        keep(l.from_cells_y);
    }

    template <class T>
    void address(T*& pointer, bool given = true) {
        pointer = given ? reinterpret_cast<T*>(&somewhere) : nullptr;
        members_.addresses.push_back([&pointer] { pointer = nullptr; });
    }

    void rows(simplematch_rows& r) {
        address(r.num_keypoints, in_.flip());
        address(r.valid, in_.flip());
        address(r.target_mask, in_.flip());
        r.target_mask_stride = in_.flip() ? 0 : height * width + in_.below(3);
        members_.integers.push_back(&r.target_mask_stride);
    }

    void budget(int64_t& bytes) {
        bytes = in_.flip() ? int64_t(64) << 20 : 1 + 16 * in_.byte();
        members_.integers.push_back(&bytes);
    }

    void device(simplematch_device& d) {
        d = simplematch_device_default();
        d.threads = in_.seldom() ? 2 : 1;
#if defined(SIMPLEMATCH_EMULATED_CUDA)
        d.kind = in_.flip() ? SIMPLEMATCH_CUDA : SIMPLEMATCH_CPU;
#endif
        members_.codes.insert(members_.codes.end(), {&d.kind, &d.index, &d.threads});
        members_.integers.push_back(&d.workspace_bytes);
    }

    int64_t batch = 1, channels = 1, queries = 1, height = 1, width = 1;
    int32_t features = 0, arithmetic = 0;

private:
    Input& in_;
    Members& members_;
};

inline int64_t nasty_integer(Input& in) {
    constexpr int64_t least = std::numeric_limits<int64_t>::min(), most = std::numeric_limits<int64_t>::max();
    const int64_t values[] = {0, -1, 1, 2, least, least + 1, most, most - 1, int64_t(1) << 31, int64_t(1) << 32,
                              int64_t(1) << 40, int64_t(1) << 47, int64_t(1) << 62};
    const int64_t choice = in.below(16);
    return choice < 13 ? values[choice] : choice < 15 ? in.below(12) : int64_t(in.word());
}

inline double nasty_real(Input& in) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double values[] = {0, -0.0, -1, std::nan(""), infinity, -infinity, 1e-320, 1e-300, 1e300, -1e300};
    return values[in.below(10)];
}

inline void spoil_tensor(simplematch_tensor& t, Input& in) {
    const int64_t i = in.below(4);
    switch (in.below(5)) {
        case 0: t.data = t.data == nullptr ? &somewhere : nullptr; break;
        case 1: t.dtype = int32_t(in.flip() ? in.below(6) : nasty_integer(in)); break;
        case 2: t.size[i] = nasty_integer(in); break;
        case 3: t.stride[i] = nasty_integer(in); break;
        default: std::swap(t.size[i], t.size[(i + 1) % 4]);
    }
}

template <class T>
T* one_of(const std::vector<T*>& list, Input& in) {
    return list.empty() ? nullptr : list[size_t(in.below(int64_t(list.size())))];
}

// True if something was replaced; by chance it may still be valid.
inline bool spoil(const Members& members, Input& in) {
    const int64_t times = in.below(4);
    for (int64_t i = 0; i < times; ++i) {
        switch (in.below(5)) {
            case 0:
                if (!members.addresses.empty()) members.addresses[size_t(in.below(int64_t(members.addresses.size())))]();
                break;
            case 1:
                if (int32_t* code = one_of(members.codes, in)) *code = int32_t(in.flip() ? in.below(5) - 1 : nasty_integer(in));
                break;
            case 2:
                if (int64_t* integer = one_of(members.integers, in)) *integer = nasty_integer(in);
                break;
            case 3:
                if (double* real = one_of(members.reals, in)) *real = nasty_real(in);
                break;
            default: spoil_tensor(*one_of(members.tensors, in), in);
        }
    }
    return times > 0;
}

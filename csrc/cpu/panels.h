// Sets of vectors of any type and strides, packed into panels: [channel][vector], `width` vectors side by side.
#pragma once

#include <type_traits>

#include "exact.h"
#include "match_all.h"
#include "panel_product.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// The first `count` lanes, where `count` is a constant.
template <class T, int count>
SIMPLEMATCH_INLINE void store_lanes(T* p, const Vector<T>& v) {
    __builtin_memcpy(p, &v, count * sizeof(T));
}

// Calls f with a null pointer of the storage type: float64 where T is, and only there.
template <class T, class F>
void with_storage_of(const VectorSet<T>& set, F&& f) {
    if constexpr (kSame<T, double>) {
        f(static_cast<double*>(nullptr));
    } else if (set.view.dtype == SIMPLEMATCH_FLOAT32) {
        f(static_cast<float*>(nullptr));
    } else if (set.view.dtype == SIMPLEMATCH_BFLOAT16) {
        f(static_cast<BFloat16*>(nullptr));
    } else {
        f(static_cast<Float16*>(nullptr));
    }
}

// A panel, and where its vectors lie.
template <class T, class S, int width>
struct Panel {
    const VectorSet<T>& set;
    int64_t first, count;
    const S* from[width];
    T factor[width + kLanes<T>];  // 1 beyond the last vector
    T* to;

    Panel(const VectorSet<T>& s, int64_t first_vector, bool raw, T* panel)
        : set(s), first(first_vector), count(s.count - first_vector < width ? s.count - first_vector : width), to(panel) {
        const S* const data = static_cast<const S*>(s.view.data);
        for (int64_t j = 0; j < width; ++j) from[j] = data + s.offset(first + (j < count ? j : 0));
        for (int64_t j = 0; j < width + kLanes<T>; ++j)
            factor[j] = raw || s.factor == nullptr || j >= count ? T(1) : s.factor[first + j];
    }

    bool side_by_side() const {
        for (int64_t j = 1; j < width; ++j)
            if (from[j] != from[j - 1] + 1) return false;
        return count == width;
    }

    T centre(int64_t c) const { return set.centre == nullptr ? T(0) : set.centre[c]; }

    // Vectors whose channels lie in a row: kLanes of them at a time change places with their channels.
    void pack_rows() {
        constexpr int n = kLanes<T>, part = width < n ? width : n;
        static_assert(width % part == 0, "a panel holds whole parts");
        const int64_t channels = set.channels();
        for (int64_t j = 0; j < width; j += part)
            for (int64_t c = 0; c < channels; c += n) {
                const int64_t here = channels - c < n ? channels - c : n;
                const Vector<T> middle = set.centre == nullptr ? Vector<T>{} : load_some(set.centre + c, here);
                Vector<T> block[n];
                for (int i = 0; i < n; ++i)
                    block[i] = i < part && j + i < count
                                   ? (load_some(from[(j + i) % width] + c, here) - middle) * factor[j + i] : Vector<T>{};
                transpose<T>(block);
                for (int i = 0; i < here; ++i) store_lanes<T, part>(to + (c + i) * width + j, block[i]);
            }
    }

    // Neighbours in a map: whole vectors of one channel.
    void pack_neighbours() {
        constexpr int n = kLanes<T>, part = width < n ? width : n;
        const int64_t channels = set.channels(), step = set.view.stride[1];
        for (int64_t c = 0; c < channels; ++c) {
            const S* const row = from[0] + c * step;
            for (int64_t j = 0; j < width; j += part) {
                const Vector<T> x = part == n ? load<T>(row + j) : load_first<T>(row + j, int64_t(part));
                store_lanes<T, part>(to + c * width + j, (x - centre(c)) * load<T>(factor + j));
            }
        }
    }

    void pack_any() {
        const int64_t channels = set.channels(), step = set.view.stride[1];
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t j = 0; j < width; ++j)
                to[c * width + j] = j < count ? (T(to_float(from[j][c * step])) - centre(c)) * factor[j] : T(0);
    }

    void pack() {
        if (set.view.stride[1] == 1) return pack_rows();
        if (side_by_side()) return pack_neighbours();
        pack_any();
    }

    // Less the centre, if the panel was packed so.
    double exact_square(int64_t j, const T* middle) const {
        double square = 0;
        for (int64_t c = 0; c < set.channels(); ++c) {
            const double x = double(to_float(from[j][c * set.view.stride[1]])) - (middle == nullptr ? 0.0 : double(middle[c]));
            square += x * x;
        }
        return square;
    }

    // Vectors that a factor of the type does not suit.
    void correct() {
        for (int64_t j = 0; j < count; ++j) {
            if (set.mark[first + j] == kOrdinary) continue;
            const bool scaled = set.mark[first + j] == kScaled;
            const double scale = scaled ? 1 / denominator(__builtin_sqrt(exact_square(j, nullptr)), set.metric) : 0;
            for (int64_t c = 0; c < set.channels(); ++c)
                to[c * width + j] = scaled ? T(double(to_float(from[j][c * set.view.stride[1]])) * scale) : T(0);
        }
    }

private:
    template <class U>
    static SIMPLEMATCH_INLINE Vector<T> load_some(const U* p, int64_t count) {
        return count == kLanes<T> ? load<T>(p) : load_first<T>(p, count);
    }
};

template <class T, int width>
void pack_panel(const VectorSet<T>& set, int64_t first, T* to) {
    with_storage_of(set, [&](auto* type) {
        using S = typename std::remove_pointer<decltype(type)>::type;
        Panel<T, S, width> panel(set, first, false, to);
        panel.pack();
        panel.correct();
    });
}

// A panel of `b` as lines: [vector][channel], then one 1, then zeros to whole vectors.
template <class T>
void lines_of_panel(const T* panel, int64_t channels, T* lines, int64_t stride) {
    constexpr int W = kPanelColumns<T>, n = kLanes<T>;
    for (int64_t c = 0; c < round_up(channels + 1, n); c += n)
        for (int64_t j = 0; j < W; j += n) {
            Vector<T> block[n];
            for (int i = 0; i < n; ++i)
                block[i] = c + i < channels ? load<T>(panel + (c + i) * W + j) : broadcast(T(c + i == channels ? 1 : 0));
            transpose<T>(block);
            for (int i = 0; i < n; ++i) store<T>(lines + (j + i) * stride + c, block[i]);
        }
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL

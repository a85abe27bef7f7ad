// neighbour_products and its backward: a few cells of one image.
//
//     p0 = <f, f>   p1 = <f, right>   p2 = <f, below>   p3 = <f, below right>   p4 = <right, below>
//     df = 2 g0 f + g1 right + g1' left + g2 below + g2' above + g3 below right + g3' above left + g4 below left
//          + g4' above right
//
// where g' is the gradient of the neighbour's product. Summed in float64: the norm of an upsampled cell is a difference of
// products where its neighbours point in opposite directions. Each feature is read about 2.3 times, most of them from the
// cache; the backward reads three rows and writes one.
#include <type_traits>

#include "target_backward.h"
#include "wide.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

constexpr int kOffsets = 9;
constexpr int64_t kRowOf[kOffsets] = {0, 0, 0, 1, -1, 1, -1, 1, -1};
constexpr int64_t kColumnOf[kOffsets] = {0, 1, -1, 0, 0, 1, -1, -1, 1};

// Cells [first, first + count) of image b; the nearest cell of the map for those outside.
template <class S>
void locate_cells(const View& map, int64_t b, int64_t first, int64_t count, Tile<S>& t) {
    const int64_t width = map.size[3], last = map.size[2] * width - 1;
    t.base = static_cast<S*>(map.data) + b * map.stride[0];
    t.channel_stride = map.stride[1];
    t.cells = count;
    t.runs = 0;
    for (int64_t j = 0; j < count; ++j) {
        const int64_t m = first + j < 0 ? 0 : first + j > last ? last : first + j;
        t.offset[j] = m / width * map.stride[2] + m % width * map.stride[3];
        if (j == 0 || t.offset[j] != t.offset[j - 1] + 1) t.run_start[t.runs++] = j;
    }
    t.run_start[t.runs] = count;
}

// Adds the products of some channels: rows of kTile numbers of the cells and of those below.
template <class T>
void add_products(const T* here, const T* below, int64_t channels, double* sums) {
    constexpr int n = kLanes<double>;
    for (int64_t j = 0; j < kNeighbourCells; j += n) {
        Vector<double> p[5];
        for (int k = 0; k < 5; ++k) p[k] = load<double>(sums + k * kTile + j);
        for (int64_t c = 0; c < channels; ++c) {
            const T *const a = here + c * kTile + j, *const b = below + c * kTile + j;
            const Vector<double> f = load_wide(a), right = load_wide(a + 1), under = load_wide(b);
            p[0] += f * f;
            p[1] += f * right;
            p[2] += f * under;
            p[3] += f * load_wide(b + 1);
            p[4] += right * under;
        }
        for (int k = 0; k < 5; ++k) store<double>(sums + k * kTile + j, p[k]);
    }
}

// Asks for the channels after the present ones: every channel of a contiguous map is on another page.
template <class S>
void fetch_next(const Tile<S>& t, int64_t first, int64_t channels) {
    if (t.channel_stride == 1) return;
    const int64_t last = first + kNeighbourChannels < channels ? first + kNeighbourChannels : channels;
    constexpr int64_t line = 64 / int64_t(sizeof(S));
    for (int64_t c = first; c < last; ++c)
        for (int64_t j = 0; j < kTile; j += line) __builtin_prefetch(t.base + t.offset[j] + c * t.channel_stride, 0, 3);
}

template <class S, class T>
void products_of_cells(const View& features, int64_t b, int64_t first, double* products, T* scratch) {
    const int64_t channels = features.size[1], height = features.size[2], width = features.size[3];
    const int64_t cells = height * width, count = cells - first < kNeighbourCells ? cells - first : kNeighbourCells;
    Tile<S> here, below;
    locate_cells(features, b, first, kTile, here);
    locate_cells(features, b, first + width, kTile, below);
    double sums[5 * kTile] = {};
    T* const rows = scratch + kNeighbourChannels * kTile;
    for (int64_t c = 0; c < channels; c += kNeighbourChannels) {
        const int64_t last = c + kNeighbourChannels < channels ? c + kNeighbourChannels : channels;
        fetch_next(here, last, channels);
        fetch_next(below, last, channels);
        read_channels(here, c, last, scratch);
        read_channels(below, c, last, rows);
        add_products(scratch, rows, last - c, sums);
    }
    for (int64_t j = 0; j < count; ++j) {
        const int64_t m = first + j;
        const bool right = m % width + 1 < width, under = m / width + 1 < height;
        const bool exists[5] = {true, right, under, right && under, right && under};
        for (int k = 0; k < 5; ++k) products[k * cells + m] = exists[k] ? sums[k * kTile + j] : 0;
    }
}

// What the neighbours of `count` cells are multiplied by; 0 for those outside the map.
template <class T>
void coefficients(const double* gradient, int64_t height, int64_t width, int64_t first, int64_t count, T* to) {
    const int64_t cells = height * width;
    for (int64_t j = 0; j < count; ++j) {
        const int64_t m = first + j, y = m / width, x = m % width;
        const bool left = x > 0, right = x + 1 < width, above = y > 0, under = y + 1 < height;
        const auto g = [&](bool exists, int k, int64_t at) { return exists ? T(gradient[k * cells + at]) : T(0); };
        to[0 * kTile + j] = 2 * g(true, 0, m);
        to[1 * kTile + j] = g(right, 1, m);
        to[2 * kTile + j] = g(left, 1, m - 1);
        to[3 * kTile + j] = g(under, 2, m);
        to[4 * kTile + j] = g(above, 2, m - width);
        to[5 * kTile + j] = g(under && right, 3, m);
        to[6 * kTile + j] = g(above && left, 3, m - width - 1);
        to[7 * kTile + j] = g(under && left, 4, m - 1);
        to[8 * kTile + j] = g(above && right, 4, m - width);
    }
}

// Channels lie next to each other: one cell after another.
template <class S, class T>
void backward_in_cells(const View& features, const View& gradient, int64_t b, int64_t first, int64_t count,
                       const T* factors) {
    const int64_t channels = features.size[1], width = features.size[3];
    const S* const base = static_cast<const S*>(features.data) + b * features.stride[0];
    S* const result = static_cast<S*>(gradient.data) + b * gradient.stride[0];
    for (int64_t j = 0; j < count; ++j) {
        const int64_t y = (first + j) / width, x = (first + j) % width;
        const S* from[kOffsets];
        T factor[kOffsets];
        int used = 0;
        for (int k = 0; k < kOffsets; ++k) {
            if (factors[k * kTile + j] == 0) continue;
            factor[used] = factors[k * kTile + j];
            from[used++] = base + (y + kRowOf[k]) * features.stride[2] + (x + kColumnOf[k]) * features.stride[3];
        }
        S* const to = result + y * gradient.stride[2] + x * gradient.stride[3];
        const auto value = [&](int64_t c, int64_t left) {
            Vector<T> sum{};
            for (int k = 0; k < used; ++k)
                sum += factor[k] * (left >= kLanes<T> ? load<T>(from[k] + c) : load_first<T>(from[k] + c, left));
            return sum;
        };
        int64_t c = 0;
        for (; c + kLanes<T> <= channels; c += kLanes<T>) store<T>(to + c, value(c, kLanes<T>));
        if (c < channels) store_first<T>(to + c, value(c, channels - c), channels - c);
    }
}

// Cells lie next to each other, or anywhere: some channels at a time.
template <class S, class T>
void backward_in_channels(const View& features, const View& gradient, int64_t b, int64_t first, int64_t count,
                          const T* factors, T* scratch) {
    constexpr int n = kLanes<T>;
    const int64_t channels = features.size[1], width = features.size[3];
    Tile<S> rows[3], to;
    for (int64_t i = 0; i < 3; ++i) locate_cells(features, b, first - 1 + (i - 1) * width, kTile, rows[i]);
    locate_cells(gradient, b, first, count, to);
    T* const sums = scratch + 3 * kNeighbourChannels * kTile;
    for (int64_t c = 0; c < channels; c += kNeighbourChannels) {
        const int64_t here = channels - c < kNeighbourChannels ? channels - c : kNeighbourChannels;
        for (int64_t i = 0; i < 3; ++i) read_channels(rows[i], c, c + here, scratch + i * kNeighbourChannels * kTile);
        for (int64_t j = 0; j < kNeighbourCells; j += n) {
            Vector<T> factor[kOffsets];
            for (int k = 0; k < kOffsets; ++k) factor[k] = load<T>(factors + k * kTile + j);
            for (int64_t i = 0; i < here; ++i) {
                Vector<T> sum{};
#pragma GCC unroll 9
                for (int k = 0; k < kOffsets; ++k) {
                    const T* const from =
                        scratch + ((kRowOf[k] + 1) * kNeighbourChannels + i) * kTile + j + 1 + kColumnOf[k];
                    sum += factor[k] == T(0) ? Vector<T>{} : factor[k] * load<T>(from);  // what a 0 meets may be NaN
                }
                store<T>(sums + i * kTile + j, sum);
            }
        }
        write_channels(to, c, here, sums, ChannelRows<S>{nullptr, 0}, OwnFactor<T>{nullptr, nullptr}, false);
    }
}

}  // namespace

template <class T>
void neighbour_products(const View& features, int64_t b, int64_t first, double* products, T* scratch) {
    with_storage(features.dtype, [&](auto* type) {
        using S = typename std::remove_pointer<decltype(type)>::type;
        if constexpr (kSame<S, double> == kSame<T, double>)
            products_of_cells<S>(features, b, first, products, scratch);
    });
}

template <class T>
void neighbour_products_backward(const View& features, const double* upstream, const View& gradient, int64_t b,
                                 int64_t first, T* scratch) {
    const int64_t height = features.size[2], width = features.size[3], rest = height * width - first;
    const int64_t count = rest < kNeighbourCells ? rest : kNeighbourCells;
    T factors[kOffsets * kTile] = {};
    coefficients(upstream, height, width, first, count, factors);
    const bool in_cells = channels_are_contiguous(features) && channels_are_contiguous(gradient) && features.size[1] > 1;
    with_storage(features.dtype, [&](auto* type) {
        using S = typename std::remove_pointer<decltype(type)>::type;
        if constexpr (kSame<S, double> == kSame<T, double>) {
            if (in_cells) {
                backward_in_cells<S>(features, gradient, b, first, count, factors);
            } else {
                backward_in_channels<S>(features, gradient, b, first, count, factors, scratch);
            }
        }
    });
}

template void neighbour_products<float>(const View&, int64_t, int64_t, double*, float*);
template void neighbour_products<double>(const View&, int64_t, int64_t, double*, double*);
template void neighbour_products_backward<float>(const View&, const double*, const View&, int64_t, int64_t, float*);
template void neighbour_products_backward<double>(const View&, const double*, const View&, int64_t, int64_t, double*);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL

#include "gather.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "common/affine.h"
#include "storage.h"

namespace simplematch::cpu {
namespace {

int64_t clamped(double x, int64_t size) {
    return x <= 0 ? 0 : x >= double(size - 1) ? size - 1 : int64_t(x);
}

void add_cell(const View& map, int64_t y, int64_t x, double weight, double slope_x, double slope_y, Sample& s) {
    const int32_t i = s.count++;
    s.offset[i] = y * map.stride[2] + x * map.stride[3];
    s.cell[i] = y * map.size[3] + x;
    s.weight[i] = weight;
    s.slope_x[i] = slope_x;
    s.slope_y[i] = slope_y;
}

void sample_bilinear(const View& map, const Sampling& sampling, const AffineMaps& to_cells, double x, double y, Sample& s) {
    const double height = double(map.size[2]), width = double(map.size[3]);
    double rate_x = rate(to_cells.x), rate_y = rate(to_cells.y);
    if (sampling.padding == SIMPLEMATCH_BORDER) {  // the clamp passes a gradient on the closed interval
        if (x < 0 || x > width - 1) rate_x = 0;
        if (y < 0 || y > height - 1) rate_y = 0;
        x = std::min(std::max(x, 0.0), width - 1);
        y = std::min(std::max(y, 0.0), height - 1);
    }
    const double left = std::floor(x), top = std::floor(y);
    for (int i = 0; i < 2; ++i) {
        const double column = left + i, weight_x = i == 0 ? left + 1 - x : x - left;
        if (!(column >= 0 && column < width)) continue;
        for (int j = 0; j < 2; ++j) {
            const double row = top + j, weight_y = j == 0 ? top + 1 - y : y - top;
            if (!(row >= 0 && row < height)) continue;
            add_cell(map, int64_t(row), int64_t(column), weight_x * weight_y, (i == 0 ? -1 : 1) * weight_y * rate_x,
                     (j == 0 ? -1 : 1) * weight_x * rate_y, s);
        }
    }
}

// A keypoint (x, y) in pixels of image b.
Sample sample_keypoint(const View& map, const Sampling& sampling, int64_t b, double x, double y) {
    Sample s{};
    const AffineMaps to_cells = maps_to_cells(sampling, b, map.size[2], map.size[3]);
    x = apply(to_cells.x, x);
    y = apply(to_cells.y, y);
    s.finite = std::isfinite(x) && std::isfinite(y);
    if (!s.finite) return s;
    if (sampling.mode == SIMPLEMATCH_BILINEAR) {
        sample_bilinear(map, sampling, to_cells, x, y, s);
        return s;
    }
    const bool floor = sampling.mode == SIMPLEMATCH_FLOOR;
    const double column = floor ? std::trunc(x) : std::nearbyint(x), row = floor ? std::trunc(y) : std::nearbyint(y);
    add_cell(map, clamped(row, map.size[2]), clamped(column, map.size[3]), 1, 0, 0, s);
    s.whole = true;
    return s;
}

}  // namespace

Sample sample_descriptor(const View& map, int64_t n) {
    Sample s{};
    s.finite = s.whole = true;
    add_cell(map, 0, n, 1, 0, 0, s);
    return s;
}

Sample sample_query(const View& map, const View& keypoints, const Sampling& sampling, int64_t b, int64_t n) {
    if (!is_given(keypoints)) return sample_descriptor(map, n);
    return sample_keypoint(map, sampling, b, read_upstream(keypoints, b, n, 0), read_upstream(keypoints, b, n, 1));
}

double read_upstream(const View& view, int64_t b, int64_t n, int64_t i, int64_t j) {
    if (view.data == nullptr) return 0;
    return read_element(view, b * view.stride[0] + n * view.stride[1] + i * view.stride[2] + j * view.stride[3]);
}

namespace {

// The cells of a sample that are read, at one channel: a cell of weight zero is not, whatever it holds.
template <class T, class S>
struct ReadCells {
    const S* at[4];
    T weight[4];
    int32_t count = 0;

    ReadCells(const S* plane, const Sample& s) {
        for (int32_t i = 0; i < s.count; ++i) {
            if (s.weight[i] == 0) continue;
            at[count] = plane + s.offset[i];
            weight[count++] = T(s.weight[i]);
        }
    }

    // row[c] for `channels` channels, `step` elements apart.
    void blend(int64_t channels, int64_t step, T* __restrict row) const {
        if (count == 4) {
            const S *__restrict a = at[0], *__restrict b = at[1], *__restrict c = at[2], *__restrict d = at[3];
            const T wa = weight[0], wb = weight[1], wc = weight[2], wd = weight[3];
            for (int64_t i = 0; i < channels; ++i)
                row[i] = T(0) + wa * T(to_float(a[i * step])) + wb * T(to_float(b[i * step])) +
                         wc * T(to_float(c[i * step])) + wd * T(to_float(d[i * step]));
            return;
        }
        std::fill(row, row + channels, T(0));
        for (int32_t k = 0; k < count; ++k) {
            const S* __restrict from = at[k];
            for (int64_t i = 0; i < channels; ++i) row[i] += weight[k] * T(to_float(from[i * step]));
        }
    }
};

// Channels [first, last) of one row; `step` is 1 or the map's distance from channel to channel.
template <class T, class S>
void gather_row(const S* image, const Sample& s, bool valid, int64_t first, int64_t last, int64_t step, T* row) {
    const S* const plane = image + first * step;
    if (!valid) {
        std::fill(row + first, row + last, T(0));
    } else if (!s.finite) {
        std::fill(row + first, row + last, std::numeric_limits<T>::quiet_NaN());
    } else if (s.whole) {
        const S* const from = plane + s.offset[0];
        for (int64_t c = 0; c < last - first; ++c) row[first + c] = T(to_float(from[c * step]));
    } else {
        ReadCells<T, S>(plane, s).blend(last - first, step, row + first);
    }
}

template <class T, class S>
void gather_of(const View& map, int64_t b, const Sample* samples, const uint8_t* valid, int64_t count, int64_t first,
               int64_t last, T* vectors, int64_t stride) {
    const S* const image = static_cast<const S*>(map.data) + b * map.stride[0];
    const int64_t step = map.stride[1];
    if (step == 1) {
        for (int64_t n = 0; n < count; ++n)
            gather_row(image, samples[n], valid[n] != 0, first, last, int64_t(1), vectors + n * stride);
        return;
    }
    // Channel by channel: the keypoints of an image share the few pages of a plane. Sixteen channels make a whole line
    // of each row.
    for (int64_t c = first; c < last; c += 16)
        for (int64_t n = 0; n < count; ++n)
            gather_row(image, samples[n], valid[n] != 0, c, std::min(c + 16, last), step, vectors + n * stride);
}

}  // namespace

template <class T>
void gather(const View& map, int64_t b, const Sample* samples, const uint8_t* valid, int64_t count, int64_t first,
            int64_t last, T* vectors, int64_t stride) {
    with_storage(map.dtype, [&](auto* type) {
        gather_of<T, typename std::remove_pointer<decltype(type)>::type>(
            map, b, samples, valid, count, first, last, vectors, stride);
    });
}

template <class T>
void gather_padded(const View& map, int64_t b, const Sample* samples, const uint8_t* valid, int64_t count, int64_t first,
                   int64_t last, T* vectors, int64_t stride) {
    gather(map, b, samples, valid, count, first, last, vectors, stride);
    if (last == map.size[1])
        for (int64_t n = 0; n < count; ++n) std::fill(vectors + n * stride + last, vectors + (n + 1) * stride, T(0));
}

template <class T>
void keypoint_gradient(const View& map, int64_t b, const Sample& sample, const T* gradient, double* x, double* y) {
    *x = *y = 0;
    if (!sample.finite) return;
    for (int32_t i = 0; i < sample.count; ++i) {
        double product = 0;
        const int64_t offset = b * map.stride[0] + sample.offset[i];
        for (int64_t c = 0; c < map.size[1]; ++c)
            if (gradient[c] != 0) product += double(gradient[c]) * read_element(map, offset + c * map.stride[1]);
        if (sample.slope_x[i] != 0) *x += sample.slope_x[i] * product;
        if (sample.slope_y[i] != 0) *y += sample.slope_y[i] * product;
    }
}

#define SIMPLEMATCH_INSTANTIATE(T)                                                                                        \
    template void gather<T>(const View&, int64_t, const Sample*, const uint8_t*, int64_t, int64_t, int64_t, T*, int64_t); \
    template void gather_padded<T>(const View&, int64_t, const Sample*, const uint8_t*, int64_t, int64_t, int64_t, T*,    \
                                   int64_t);
SIMPLEMATCH_INSTANTIATE(float)
SIMPLEMATCH_INSTANTIATE(double)
template void keypoint_gradient<float>(const View&, int64_t, const Sample&, const float*, double*, double*);
template void keypoint_gradient<double>(const View&, int64_t, const Sample&, const double*, double*, double*);

}  // namespace simplematch::cpu

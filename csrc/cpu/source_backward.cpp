#include "source_backward.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "storage.h"

namespace simplematch::cpu {

std::vector<Scatter> reserve_scatter(int64_t count, const Sampling& sampling) {
    std::vector<Scatter> list;
    list.reserve(size_t(count) * (sampling.mode == SIMPLEMATCH_BILINEAR ? 4 : 1));
    return list;
}

void list_scatter(const Sample* samples, const uint8_t* valid, int64_t count, std::vector<Scatter>& list) {
    list.clear();
    for (int64_t n = 0; n < count; ++n) {
        if (!valid[n] || !samples[n].finite) continue;
        for (int32_t i = 0; i < samples[n].count; ++i)
            if (samples[n].weight[i] != 0) list.push_back({samples[n].cell[i], n, samples[n].weight[i]});
    }
    std::sort(list.begin(), list.end(),
              [](const Scatter& a, const Scatter& b) { return a.cell != b.cell ? a.cell < b.cell : a.n < b.n; });
}

namespace {

// Calls f(first, last) for each stretch of summands that share a cell.
template <class F>
void for_each_cell(const Scatter* list, const Scatter* end, F&& f) {
    while (list != end) {
        const Scatter* last = list;
        while (last != end && last->cell == list->cell) ++last;
        f(list, last);
        list = last;
    }
}

template <class T>
T total(const Scatter* first, const Scatter* last, const T* vectors, int64_t stride, int64_t channel) {
    T sum = 0;
    for (const Scatter* s = first; s != last; ++s) sum += T(s->weight) * vectors[s->n * stride + channel];
    return sum;
}

template <class T, class G>
void scatter_into_cells(const View& gradient, G* image, const Scatter* list, const Scatter* end, const T* vectors,
                        int64_t stride, int64_t first_cell, int64_t last_cell) {
    const int64_t channels = gradient.size[1], width = gradient.size[3];
    const Scatter* next = std::lower_bound(
        list, end, first_cell, [](const Scatter& s, int64_t cell) { return s.cell < cell; });
    for (int64_t m = first_cell; m < last_cell; ++m) {
        G* const row = image + m / width * gradient.stride[2] + m % width * gradient.stride[3];
        const Scatter* last = next;
        while (last != end && last->cell == m) ++last;
        if (last == next) {
            std::memset(static_cast<void*>(row), 0, size_t(channels) * sizeof(G));
        } else {
            for (int64_t c = 0; c < channels; ++c) from_float(total(next, last, vectors, stride, c), row + c);
        }
        next = last;
    }
}

constexpr int64_t kPlanes = 8;

// The sums of one cell, of `channels` channels from `vectors` on.
template <class T>
void total_of_planes(const Scatter* first, const Scatter* last, const T* vectors, int64_t stride, int64_t channels, T* sums) {
    for (int64_t k = 0; k < channels; ++k) sums[k] = 0;
    for (const Scatter* s = first; s != last; ++s) {
        const T* __restrict const row = vectors + s->n * stride;
        const T weight = T(s->weight);
        for (int64_t k = 0; k < channels; ++k) sums[k] += weight * row[k];
    }
}

template <class G>
void clear_plane(const View& gradient, G* plane) {
    const int64_t height = gradient.size[2], width = gradient.size[3];
    if (gradient.stride[3] == 1 && (gradient.stride[2] == width || height == 1)) {
        std::memset(static_cast<void*>(plane), 0, size_t(height * width) * sizeof(G));
        return;
    }
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x)
            std::memset(static_cast<void*>(plane + y * gradient.stride[2] + x * gradient.stride[3]), 0, sizeof(G));
}

// A few planes at a time: their channels lie side by side in the vectors, and the list is read once for all of them.
template <class T, class G>
void scatter_into_planes(const View& gradient, G* image, const Scatter* list, const Scatter* end, const T* vectors,
                         int64_t stride, int64_t first, int64_t last) {
    const int64_t width = gradient.size[3];
    const bool dense = gradient.stride[2] == width * gradient.stride[3] || gradient.size[2] == 1;
    const auto offset = [&](int64_t m) {  // a division for each cell would take longer than its sums
        return dense ? m * gradient.stride[3] : m / width * gradient.stride[2] + m % width * gradient.stride[3];
    };
    for (int64_t c = first; c < last; c += kPlanes) {
        const int64_t planes = std::min(kPlanes, last - c);
        G* const plane = image + c * gradient.stride[1];
        for (int64_t k = 0; k < planes; ++k) clear_plane(gradient, plane + k * gradient.stride[1]);
        for_each_cell(list, end, [&](const Scatter* from, const Scatter* to) {
            G* const cell = plane + offset(from->cell);
            T sums[kPlanes];
            if (planes == kPlanes) {
                total_of_planes(from, to, vectors + c, stride, kPlanes, sums);
            } else {
                total_of_planes(from, to, vectors + c, stride, planes, sums);
            }
            for (int64_t k = 0; k < planes; ++k) from_float(sums[k], cell + k * gradient.stride[1]);
        });
    }
}

}  // namespace

template <class T>
void source_backward(const View& gradient, int64_t b, const std::vector<Scatter>& scatter, const T* vectors,
                     int64_t stride, int64_t part, int64_t parts) {
    const bool by_cells = gradient.stride[1] == 1;
    const int64_t items = by_cells ? gradient.size[2] * gradient.size[3] : gradient.size[1];
    const int64_t first = items * part / parts, last = items * (part + 1) / parts;
    const Scatter *list = scatter.data(), *end = list + scatter.size();
    with_storage(gradient.dtype, [&](auto* type) {
        using G = typename std::remove_pointer<decltype(type)>::type;
        G* const image = static_cast<G*>(gradient.data) + b * gradient.stride[0];
        if (by_cells) {
            scatter_into_cells(gradient, image, list, end, vectors, stride, first, last);
        } else {
            scatter_into_planes(gradient, image, list, end, vectors, stride, first, last);
        }
    });
}

template <class T>
void write_queries(const View& gradient, int64_t b, int64_t first, int64_t count, const T* vectors, int64_t stride,
                   int64_t first_channel, int64_t last_channel) {
    constexpr int64_t together = 16;  // rows whose numbers of one channel make a line
    with_storage(gradient.dtype, [&](auto* type) {
        using G = typename std::remove_pointer<decltype(type)>::type;
        G* const columns = static_cast<G*>(gradient.data) + b * gradient.stride[0] + first * gradient.stride[3];
        for (int64_t n0 = 0; n0 < count; n0 += together) {
            const int64_t n1 = std::min(n0 + together, count);
            if (gradient.stride[1] == 1) {
                for (int64_t n = n0; n < n1; ++n)
                    for (int64_t c = first_channel; c < last_channel; ++c)
                        from_float(vectors[n * stride + c], columns + n * gradient.stride[3] + c);
                continue;
            }
            for (int64_t c = first_channel; c < last_channel; ++c)
                for (int64_t n = n0; n < n1; ++n)
                    from_float(vectors[n * stride + c], columns + n * gradient.stride[3] + c * gradient.stride[1]);
        }
    });
}

template void write_queries<float>(const View&, int64_t, int64_t, int64_t, const float*, int64_t, int64_t, int64_t);
template void write_queries<double>(const View&, int64_t, int64_t, int64_t, const double*, int64_t, int64_t, int64_t);
template void source_backward<float>(
    const View&, int64_t, const std::vector<Scatter>&, const float*, int64_t, int64_t, int64_t);
template void source_backward<double>(
    const View&, int64_t, const std::vector<Scatter>&, const double*, int64_t, int64_t, int64_t);

}  // namespace simplematch::cpu

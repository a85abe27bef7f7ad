// From the scores of coarse cells to those of fine ones, rows first expanded and then blended, and the transpose of that.
//
// With the coarse cells i around the fine cell m and their weights w:
//
//     u_m = sum_i w_i t_i        dot: s = u        cosine: t_i = D(f_i) s_i, s = u / D(F)        l2: s = min(0, u + v)
//     |F_m|^2 = sum_ij w_i w_j <f_i, f_j>          v_m = sum_i w_i |f_i|^2 - |F_m|^2
//
// A cell of weight zero isn't read: it may be NaN. A query reads h w and writes H W numbers; nothing else leaves the cache.
#include "common/metric.h"
#include "kernels.h"
#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// fine[x] = sum_i w_i coarse[i] of one row.
template <class T>
void expand(const UpsampledAxis<T>& axis, const T* coarse, T* fine) {
    for (int64_t x = 0; x < axis.fine; ++x) {
        const T w = axis.weight[x];
        const int64_t low = axis.low[x];
        fine[x] = w == 0 ? coarse[low] : (1 - w) * coarse[low] + w * coarse[low + 1];
    }
}

// coarse[i] += sum over the fine cells [left, right) of w_i fine[x - left], in their order.
template <class T>
void reduce(const UpsampledAxis<T>& axis, int64_t left, int64_t right, const T* fine, T* coarse) {
    for (int64_t x = left; x < right; ++x) {
        const T w = axis.weight[x], g = fine[x - left];
        const int64_t low = axis.low[x];
        coarse[low] += (1 - w) * g;
        if (w != 0) coarse[low + 1] += w * g;
    }
}

template <class T>
SIMPLEMATCH_INLINE T at_most_zero(T upsampled, T term) {  // an infinite score stays that
    const T sum = upsampled + term;
    return upsampled - upsampled == 0 ? (sum > 0 ? T(0) : sum) : upsampled;
}

template <class T>
void finish(int32_t kind, int64_t count, const T* __restrict terms, T* __restrict row) {
    if (kind == SIMPLEMATCH_COSINE) {
        for (int64_t x = 0; x < count; ++x) row[x] *= terms[x];
    } else if (kind == SIMPLEMATCH_L2) {
        for (int64_t x = 0; x < count; ++x) row[x] = at_most_zero(row[x], terms[x]);
    }
}

template <class T>
void blend(int64_t count, T w, const T* __restrict a, const T* __restrict b, T* __restrict to) {
    for (int64_t x = 0; x < count; ++x) to[x] = (1 - w) * a[x] + w * b[x];
}

// One row of what |F|^2 is made of, for every coarse column: of the squares of its weights, and of their mixed products.
struct SquareRow {
    double* squares;  // (w,)
    double* mixed;    // (w,)
    double* means;    // (w,): of |f|^2
};

template <class T>
SquareRow square_row(const Upsampling<T>& u, int64_t y, double* scratch) {
    const int64_t width = u.x.cells, cells = u.y.cells * width, low = u.y.low[y] * width;
    const double w = u.y.exact_weight[y], v = 1 - w;
    const SquareRow row{scratch, scratch + width, scratch + 2 * width};
    const double *own = u.products + low, *right = own + cells, *below = own + 2 * cells;
    if (w == 0) {
        for (int64_t i = 0; i < width; ++i) row.squares[i] = row.means[i] = own[i];
        for (int64_t i = 0; i < width; ++i) row.mixed[i] = right[i];
        return row;
    }
    const double *diagonal = own + 3 * cells, *other = own + 4 * cells;
    for (int64_t i = 0; i < width; ++i) {
        row.squares[i] = v * v * own[i] + w * w * own[i + width] + 2 * v * w * below[i];
        row.mixed[i] = v * v * right[i] + w * w * right[i + width] + v * w * (diagonal[i] + other[i]);
        row.means[i] = v * own[i] + w * own[i + width];
    }
    return row;
}

// |F|^2 of fine column x.
template <class T>
SIMPLEMATCH_INLINE double square_norm(const UpsampledAxis<T>& axis, const SquareRow& row, int64_t x) {
    const int64_t low = axis.low[x];
    const double w = axis.exact_weight[x], v = 1 - w;
    if (w == 0) return row.squares[low];
    const double square = v * v * row.squares[low] + w * w * row.squares[low + 1] + 2 * v * w * row.mixed[low];
    return square < 0 ? 0 : square;
}

}  // namespace

// coarse: (h, w), for the cosine times D(f). scratch: 2 rows of round_up(W, kTile).
template <class T>
void upsample(const Upsampling<T>& u, const T* coarse, T* fine, T* scratch) {
    const int64_t width = u.x.fine, none = -1;
    T* rows[2] = {scratch, scratch + round_up(width, kTile)};
    int64_t held[2] = {none, none};  // which coarse row each of them is, expanded
    const auto expanded = [&](int64_t i) {
        T* const row = rows[i % 2];
        if (held[i % 2] != i) expand(u.x, coarse + i * u.x.cells, row);
        held[i % 2] = i;
        return row;
    };
    for (int64_t y = 0; y < u.y.fine; ++y) {
        const T w = u.y.weight[y];
        const T* const a = expanded(u.y.low[y]);
        T* const to = fine + y * width;
        if (w == 0) {
            __builtin_memcpy(to, a, size_t(width) * sizeof(T));
        } else {
            blend(width, w, a, static_cast<const T*>(expanded(u.y.low[y] + 1)), to);
        }
        finish(u.kind, width, u.terms + y * width, to);
    }
}

// gradient: of the fine scores in the box, rows without gaps; the cosine's times 1 / D, and then it is left as ds times s,
// for the sums over queries. coarse: (h, w), whole. fine: the first score of the box, rows of W.
// scratch: 2 rows of round_up(W, kTile).
template <class T>
void upsample_backward(const Upsampling<T>& u, const Box& box, const T* fine, T* gradient, T* coarse, T* scratch) {
    const int64_t columns = box.right - box.left, width = u.x.fine;
    for (int64_t i = 0; i < u.y.cells * u.x.cells; ++i) coarse[i] = 0;
    T* sums[2] = {scratch, scratch + round_up(width, kTile)};
    for (T* row : sums)
        for (int64_t x = 0; x < columns; ++x) row[x] = 0;
    const auto flush = [&](int64_t i) {  // row i is complete
        T* const row = sums[i % 2];
        if (i < u.y.cells) reduce(u.x, box.left, box.right, row, coarse + i * u.x.cells);
        for (int64_t x = 0; x < columns; ++x) row[x] = 0;
    };
    int64_t here = box.top < box.bottom ? u.y.low[box.top] : 0;
    for (int64_t y = box.top; y < box.bottom; ++y) {
        for (; here < u.y.low[y]; ++here) flush(here);
        T* __restrict ds = gradient + (y - box.top) * columns;
        const T* __restrict terms = u.terms + y * width + box.left;
        const T* __restrict scores = fine + (y - box.top) * width;
        T* __restrict a = sums[here % 2];
        T* __restrict b = sums[(here + 1) % 2];
        const T w = u.y.weight[y], v = 1 - w;
        for (int64_t x = 0; x < columns; ++x) {
            T g = ds[x];
            if (u.kind == SIMPLEMATCH_COSINE) {
                ds[x] = g == 0 ? T(0) : g * scores[x];  // what a 0 meets may be NaN
                g = g == 0 ? T(0) : g * terms[x];
            }
            a[x] += v * g;
            if (w != 0) b[x] += w * g;
        }
    }
    flush(here);
    flush(here + 1);
}

// Row y of the terms. scratch: 3 w numbers.
template <class T>
void upsampled_terms(const Upsampling<T>& u, const Metric& metric, int64_t y, T* terms, double* scratch) {
    const SquareRow row = square_row(u, y, scratch);
    for (int64_t x = 0; x < u.x.fine; ++x) {
        const double square = square_norm(u.x, row, x);
        if (u.kind == SIMPLEMATCH_COSINE) {
            terms[x] = T(1 / denominator(__builtin_sqrt(square), metric));
        } else {
            const double w = u.x.exact_weight[x];
            const int64_t low = u.x.low[x];
            const double mean = w == 0 ? row.means[low] : (1 - w) * row.means[low] + w * row.means[low + 1];
            terms[x] = T(mean - square);
        }
    }
}

// squares: row y of dL/d|F|^2, from sums over the queries of ds (l2) or ds s (cosine). scratch: 3 w numbers.
template <class T>
void upsampled_terms_backward(const Upsampling<T>& u, const Metric& metric, int64_t y, const T* sums, double* squares,
                              double* scratch) {
    const SquareRow row = square_row(u, y, scratch);
    for (int64_t x = 0; x < u.x.fine; ++x) {
        double g = -double(sums[x]);
        if (u.kind == SIMPLEMATCH_COSINE && g != 0) {  // dD = -sum / D, and d|F|^2 = dD / (2 |F|) where D moves
            const double norm = __builtin_sqrt(square_norm(u.x, row, x));
            const bool moves = norm > 0 && !(metric.clamp_eps && norm < metric.eps);
            g = moves ? g / denominator(norm, metric) / (2 * norm) : g == g ? 0 : g;
        }
        squares[x] = g;
    }
}

template void upsample<float>(const Upsampling<float>&, const float*, float*, float*);
template void upsample<double>(const Upsampling<double>&, const double*, double*, double*);
template void upsample_backward<float>(const Upsampling<float>&, const Box&, const float*, float*, float*, float*);
template void upsample_backward<double>(const Upsampling<double>&, const Box&, const double*, double*, double*, double*);
template void upsampled_terms<float>(const Upsampling<float>&, const Metric&, int64_t, float*, double*);
template void upsampled_terms<double>(const Upsampling<double>&, const Metric&, int64_t, double*, double*);
template void upsampled_terms_backward<float>(
    const Upsampling<float>&, const Metric&, int64_t, const float*, double*, double*);
template void upsampled_terms_backward<double>(
    const Upsampling<double>&, const Metric&, int64_t, const double*, double*, double*);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL

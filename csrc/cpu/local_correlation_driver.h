// What the forward and the backward of local_correlation share: rows of queries and of cells.
#pragma once

#include <limits>

#include "common/metric.h"
#include "local_correlation_plan.h"
#include "rows.h"

namespace simplematch::cpu {

// Numbers from one packed row to the next: one line more, so that rows do not share few sets of the nearest cache.
static inline int64_t packed_row(int64_t channels) { return round_up(channels, kChannelUnit) + 16; }

// Whether cells can be read where they are: rows of T of whole vectors.
template <class T>
bool has_rows(const View& map) {
    return is_stored_as<T>(map) && map.stride[1] == 1 && map.size[1] % kChannelUnit == 0;
}

// The queries as rows; a copy unless they are rows already.
template <class T>
class QueryRows {
public:
    // With `with_norms` their norms too.
    QueryRows(const View& map, bool with_norms, int threads)
        : map_(map), in_place_(has_rows<T>(map)), stride_(packed_row(map.size[1])) {
        const int64_t batch = map.size[0], height = map.size[2], width = map.size[3], channels = map.size[1];
        constexpr int64_t piece = 64;
        const int64_t pieces = (width + piece - 1) / piece;
        if (!in_place_) rows_ = Buffer<T>(batch * height * width * stride_);
        if (with_norms) norm_ = Buffer<T>(batch * height * width);
        if (in_place_ && !with_norms) return;
        const Kernels<T>& steps = kernels<T>();
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1)
        for (int64_t task = 0; task < batch * height * pieces; ++task) {
            const int64_t left = task % pieces * piece, right = std::min(left + piece, width);
            const int64_t y = task / pieces % height, b = task / pieces / height, n = y * width + left;
            const int64_t at = b * height * width + n;
            if (!in_place_) steps.correlation.read_cells(map, b, y, left, right, rows_.get() + at * stride_, stride_);
            if (!with_norms) continue;
            for (int64_t i = 0; i < right - left; ++i)
                steps.norms(row(b, n + i), 0, channels, 1, norm_.get() + at + i);
        }
    }

    const T* row(int64_t b, int64_t n) const {
        if (!in_place_) return rows_.get() + (b * map_.size[2] * map_.size[3] + n) * stride_;
        const int64_t y = map_.size[2] == 1 ? 0 : n / map_.size[3], x = n - y * map_.size[3];
        return static_cast<const T*>(map_.data) + b * map_.stride[0] + y * map_.stride[2] + x * map_.stride[3];
    }
    T norm(int64_t query) const { return norm_[query]; }

private:
    View map_;
    bool in_place_;
    int64_t stride_;
    Buffer<T> rows_, norm_;
};

// Cells of one box of the target at a time, with their norms. One for each thread.
template <class T>
class CellReader {
public:
    CellReader(const View& target, bool with_norms, int64_t most_cells)
        : target_(target), with_norms_(with_norms), in_place_(has_rows<T>(target)),
          stride_(in_place_ ? target.stride[3] : packed_row(target.size[1])),
          rows_(in_place_ ? 0 : most_cells * stride_), norm_(with_norms ? most_cells : 0) {}

    void read(int64_t b, const Box& box) {
        const Kernels<T>& steps = kernels<T>();
        const int64_t columns = box.right - box.left;
        b_ = b;
        box_ = box;
        for (int64_t y = box.top; y < box.bottom; ++y) {
            T* const to = rows_.get() + (y - box.top) * columns * stride_;
            if (!in_place_) steps.correlation.read_cells(target_, b, y, box.left, box.right, to, stride_);
            if (with_norms_)
                steps.norms(row(y, box.left), stride_, target_.size[1], columns, norm_.get() + (y - box.top) * columns);
        }
    }

    // Of the cells from (y, x) on to the right end of the box.
    const T* row(int64_t y, int64_t x) const {
        if (in_place_)
            return static_cast<const T*>(target_.data) + b_ * target_.stride[0] + y * target_.stride[2] + x * stride_;
        return rows_.get() + ((y - box_.top) * (box_.right - box_.left) + x - box_.left) * stride_;
    }
    const T* norms(int64_t y, int64_t x) const {
        return norm_.get() + (y - box_.top) * (box_.right - box_.left) + x - box_.left;
    }
    int64_t stride() const { return stride_; }

private:
    View target_;
    bool with_norms_, in_place_;
    int64_t stride_;
    Buffer<T> rows_, norm_;
    int64_t b_ = 0;
    Box box_{};
};

constexpr int64_t kSlack = 64;  // numbers that steps may read or write past an end

// Whether float32 sums of squares give it.
template <class T>
bool is_safe_norm(T norm) {
    if (std::is_same<T, double>::value) return norm - norm == 0;
    return norm == 0 || (norm >= T(0x1p-52) && norm <= T(0x1p62));
}

// The cells of a group: their rows, norms, divisors and, where they are not finite, NaN.
template <class T>
struct GroupCells {
    explicit GroupCells(int64_t most_cells)
        : row(most_cells), norm(most_cells + kSlack), divisor(most_cells + kSlack), unknown(most_cells + kSlack) {}

    // `zeros` stands for cells that are not finite; null: they are taken as they are.
    void list(const CellReader<T>& reader, const Box& box, const Metric& metric, bool with_norms, const T* zeros) {
        const int64_t columns = box.right - box.left;
        count = area_of(box);
        all_safe = true;
        for (int64_t y = box.top; y < box.bottom; ++y) {
            const T* from = reader.row(y, box.left);
            const T** const to = row.get() + (y - box.top) * columns;
            for (int64_t x = 0; x < columns; ++x, from += reader.stride()) to[x] = from;
            if (with_norms) list_norms(reader.norms(y, box.left), (y - box.top) * columns, columns, metric, zeros);
        }
        for (int64_t j = count; with_norms && j < count + kSlack; ++j) divisor[j] = 1, unknown[j] = 0;
    }

    bool all_safe = true;  // no norm's square leaves float32
    int64_t count = 0;
    Buffer<const T*> row;
    Buffer<T> norm, divisor, unknown;

private:
    void list_norms(const T* norms, int64_t first, int64_t columns, const Metric& metric, const T* zeros) {
        const bool cosine = metric.kind == SIMPLEMATCH_COSINE;
        for (int64_t i = first; i < first + columns; ++i) {
            const T length = norms[i - first];
            norm[i] = length;
            divisor[i] = cosine ? denominator(length, metric) : T(1);
            unknown[i] = 0;
            if (is_safe_norm(length)) continue;
            all_safe = false;
            if (length - length == 0) continue;
            unknown[i] = std::numeric_limits<T>::quiet_NaN();
            if (zeros != nullptr) row[i] = zeros, divisor[i] = 1;  // of weights, of which those that are 0 stay that
        }
    }
};

// Scores of the group, rows of `stride`: as the metric defines them, also where float32 squares or products lose them.
template <class T>
void score_group(const CellGroup<T>& group, const GroupCells<T>& cells, const T* query_norm, const Metric& metric,
                 int64_t channels, T* scores, int64_t stride) {
    kernels<T>().correlation.correlate(group, scores, stride);
    const bool cosine = metric.kind == SIMPLEMATCH_COSINE, exact = std::is_same<T, double>::value;
    for (int64_t q = 0; q < group.queries; ++q) {
        T* const row = scores + q * stride;
        const T divisor = cosine ? denominator(query_norm[q], metric) : T(1);
        const T* const divisors = cosine ? cells.divisor.get() : nullptr;
        const bool finite = kernels<T>().correlation.finish_scores(row, cells.count, divisor, divisors);
        const bool safe = !cosine || is_safe_norm(query_norm[q]);
        if (exact || (cosine ? safe && cells.all_safe : finite)) continue;
        for (int64_t i = 0; i < cells.count; ++i) {
            if (cosine ? safe && is_safe_norm(cells.norm[i]) : row[i] - row[i] == 0) continue;
            double product = 0, query_square = 0, cell_square = 0;
            for (int64_t c = 0; c < channels; ++c) {
                const double q_c = double(group.query[q][c]), f_c = double(group.cell[i][c]);
                product += q_c * f_c;
                query_square += q_c * q_c;
                cell_square += f_c * f_c;
            }
            if (cosine)
                product = product / denominator(__builtin_sqrt(query_square), metric) /
                          denominator(__builtin_sqrt(cell_square), metric);
            row[i] = T(product);
        }
    }
}

// The rows and columns of the window, and where its samples lie between the cells.
template <class T>
WindowBlend<T> window_blend(const CorrelationProblem& p, const Place& place, int64_t pitch) {
    const bool bilinear = is_bilinear(p);
    const double x = bilinear ? place.x - __builtin_floor(place.x) : 0, y = bilinear ? place.y - __builtin_floor(place.y) : 0;
    return {2 * p.radius_y + 1, 2 * p.radius_x + 1, bilinear, T(x), T(y), T(p.scale), pitch};
}

static inline bool is_whole(const Place& place, const Cluster& c, const CorrelationProblem& p) {
    const bool inside = place.top >= 0 && place.left >= 0 && place.top + c.rows <= p.target.size[2] &&
                        place.left + c.columns <= p.target.size[3];
    return inside && !is_given(p.offsets);
}

// Calls f(i, j) for each cell of the query's box that the map has, or "border" finds there: i-th of the whole box, j-th of
// the group's box.
template <class F>
void for_each_cell(const CorrelationProblem& p, const Cluster& cluster, const Place& place, const Box& group, F&& f) {
    const bool border = pads_with_border(p);
    const int64_t columns = group.right - group.left;
    for (int64_t y = 0; y < cluster.rows; ++y)
        for (int64_t x = 0; x < cluster.columns; ++x) {
            int64_t row = place.top + y, column = place.left + x;
            if (border) {
                row = std::min(std::max<int64_t>(row, 0), p.target.size[2] - 1);
                column = std::min(std::max<int64_t>(column, 0), p.target.size[3] - 1);
            } else if (row < 0 || row >= p.target.size[2] || column < 0 || column >= p.target.size[3]) {
                continue;
            }
            f(y * cluster.columns + x, (row - group.top) * columns + column - group.left);
        }
}

// One of the samples of a cluster in the box of a query: up to four cells with their weights and slopes.
struct Taps {
    int64_t cell[4];
    double weight[4], slope_x[4], slope_y[4];
    int count;
    bool finite;
};

static inline Taps taps_of(const CorrelationProblem& p, const Cluster& cluster, const Place& place, int64_t b, int64_t k) {
    const SamplePlace s = place_sample(p, place.x, place.y, b, k);
    Taps taps{};
    taps.finite = s.finite;
    if (!s.finite) return taps;
    const int64_t extra = is_bilinear(p) ? 1 : 0;
    for (int64_t j = 0; j <= extra; ++j)
        for (int64_t i = 0; i <= extra; ++i) {
            const double weight_x = extra == 0 ? 1 : i == 0 ? 1 - s.right_of : s.right_of;
            const double weight_y = extra == 0 ? 1 : j == 0 ? 1 - s.below : s.below;
            const int64_t y = std::min(std::max<int64_t>(s.top + j - place.top, 0), cluster.rows - 1);
            const int64_t x = std::min(std::max<int64_t>(s.left + i - place.left, 0), cluster.columns - 1);
            taps.cell[taps.count] = y * cluster.columns + x;
            taps.weight[taps.count] = weight_x * weight_y;
            taps.slope_x[taps.count] = extra == 0 ? 0 : (i == 0 ? -weight_y : weight_y);
            taps.slope_y[taps.count] = extra == 0 ? 0 : (j == 0 ? -weight_x : weight_x);
            ++taps.count;
        }
    return taps;
}

}  // namespace simplematch::cpu

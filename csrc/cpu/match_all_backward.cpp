// The backward of match_all: gradients of a block of scores, computed again, and their products with the vectors.
//
//     ds[n, m] = exp(s[n, m] / T - log_sum_exp_n) l_n / T + exp(s[n, m] / T - log_sum_exp_m) l_m / T
//     da_n = sum_m ds[n, m] b_m      db_m = sum_n ds[n, m] a_n                       of vectors as they are packed
//     da_n = sum_m ds[n, m] sign(b_m - a_n)      db_m = -sum_n ds[n, m] sign(b_m - a_n)                  (l1)
//
// Three products of 2 N M C operations: scores, da, db. For l1 seven N M C: three, and four for both gradients.
#include "sign_sums.h"
#include "tile_scores.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

template <class T>
struct ScoreGradients {
    static constexpr int W = kPanelColumns<T>, n = kLanes<T>;
    const ScoreGradientWork<T>& w;
    const T* const tile;
    const T inverse_temperature = T(w.summation.inverse_temperature), shift = T(w.summation.shift);
    T column_weight[W], column_best[W], column_log_best[W];

    void begin_columns(int64_t first, int64_t count) {
        for (int64_t j = 0; j < W; ++j) {
            column_weight[j] = j < count ? w.of_columns.weight[first + j] : T(0);
            column_best[j] = j < count ? w.of_columns.best[first + j] : T(0);
            column_log_best[j] = j < count ? w.of_columns.log_best[first + j] : T(0);
        }
    }

    // Row i of the tile, row r of the block.
    template <bool fixed_shift, bool with_moment>
    SIMPLEMATCH_INLINE Vector<T> take_row(int i, int64_t r, T weight, T best, T log_best) const {
        Vector<T> moment{};
#pragma GCC unroll 8
        for (int v = 0; v < kPanelVectors; ++v) {
            const Vector<T> s = load<T>(tile + i * W + v * n), of_column = load<T>(column_weight + v * n);
            Vector<T> ds;
            if constexpr (fixed_shift) {
                ds = exponential(s * inverse_temperature - shift) * (of_column + weight);
            } else {
                const Vector<T> in_column = s - load<T>(column_best + v * n);
                ds = exponential((s - best) * inverse_temperature + log_best) * weight +
                     exponential(in_column * inverse_temperature + load<T>(column_log_best + v * n)) * of_column;
            }
            store<T>(w.gradients + r * W + v * n, ds);
            if constexpr (with_moment) moment += ds == 0 ? Vector<T>{} : ds * s;
        }
        return moment;
    }

    template <bool fixed_shift, bool with_moment>
    void take(int64_t r, int64_t rows) const {
        Vector<T> moment{};
        for (int i = 0; i < kPanelRows; ++i) {
            const bool exists = i < rows;
            const int64_t at = w.first_row + r + (exists ? i : 0);
            const T weight = exists ? w.of_rows.weight[at] : T(0);
            moment += take_row<fixed_shift, with_moment>(i, r + i, weight, w.of_rows.best[at], w.of_rows.log_best[at]);
        }
        if constexpr (with_moment)
            for (int i = 0; i < n; ++i) *w.moment += double(moment[i]);
    }
};

}  // namespace

template <class T>
void score_gradients(const ScoreGradientWork<T>& w) {
    constexpr int W = kPanelColumns<T>;
    const int64_t channels = w.b.channels(), first = w.panel * W, count = w.b.count - first < W ? w.b.count - first : W;
    T* const panel = w.scratch;
    T* const tile = panel + (channels + 1) * W;
    pack_panel<T, W>(w.b, first, panel);
    if (w.lines != nullptr) lines_of_panel(panel, channels, w.lines, w.stride);
    ScoreGradients<T> gradients{w, tile, T(w.summation.inverse_temperature), T(w.summation.shift), {}, {}, {}};
    gradients.begin_columns(first, count);
    const bool separate = any_separate(w.b, first, count);
    for (int64_t r = 0; r < w.rows; r += kPanelRows) {
        const int64_t rows = w.rows - r < kPanelRows ? w.rows - r : kPanelRows;
        meet_panels(w.a.metric, w.a_panels + r * channels, panel, channels, tile);
        finish_scores(TileOf<T>{w.a, w.b, w.first_row + r, rows, first, count, separate}, tile, false);
        if (w.summation.fixed_shift) {
            if (w.moment != nullptr) gradients.template take<true, true>(r, rows);
            else gradients.template take<true, false>(r, rows);
        } else {
            if (w.moment != nullptr) gradients.template take<false, true>(r, rows);
            else gradients.template take<false, false>(r, rows);
        }
    }
}

template <class T>
void sum_for_rows(const LineSums<T>& w) {
    constexpr int W = kPanelColumns<T>;
    const int64_t whole = w.columns / W, rest = w.columns % W, panel = w.row_capacity * W;
    for (int64_t c = 0; c < w.channels; c += W) {
        T* const to = w.sums + c;
        if (whole > 0)
            panel_product_columns<T, W, 1>(
                {w.gradients, w.lines + c, w.stride, W, to, w.stride, w.add, whole, panel}, w.channels - c);
        if (rest > 0)
            panel_product_columns<T, W, 1>({w.gradients + whole * panel, w.lines + whole * W * w.stride + c, w.stride, rest, to,
                                            w.stride, w.add || whole > 0},
                                           w.channels - c);
    }
}

template <class T>
void sum_for_columns(const LineSums<T>& w) {
    constexpr int W = kPanelColumns<T>;
    for (int64_t c = 0; c < w.channels; c += W)
        for (int64_t j = 0; j < w.columns; j += kPanelRows)
            panel_product_columns<T, 1, W>(
                {w.gradients + j, w.lines + c, w.stride, w.rows, w.sums + j * w.stride + c, w.stride, w.add}, w.channels - c);
}

template <class T>
void sum_signs(const ChunkSigns<T>& w) {
    constexpr int64_t W = kPanelColumns<T>;
    const size_t bytes = size_t(round_up(w.last - w.first, kLanes<T>)) * sizeof(T);
    for (int64_t i = 0; w.a_sums != nullptr && !w.add_to_a && i < w.rows; ++i)
        __builtin_memset(w.a_sums + i * w.stride + w.first, 0, bytes);
    for (int64_t j = 0; w.b_sums != nullptr && !w.add_to_b && j < w.columns; ++j)
        __builtin_memset(w.b_sums + j * w.stride + w.first, 0, bytes);
    for (int64_t j = 0; j < w.columns; j += W)
        for (int64_t r = 0; r < w.rows; r += kSignRows) {
            const int64_t rows = w.rows - r < kSignRows ? w.rows - r : kSignRows;
            SignSums<T> p;
            for (int64_t i = 0; i < rows; ++i) {
                p.x[i] = w.a_lines + (r + i) * w.stride;
                p.dx[i] = w.a_sums == nullptr ? nullptr : w.a_sums + (r + i) * w.stride;
                p.w[i] = w.gradients + j * w.row_capacity + (r + i) * W;
            }
            p.y = w.b_lines + j * w.stride;
            p.y_step = p.dy_step = w.stride;
            p.dy = w.b_sums == nullptr ? nullptr : w.b_sums + j * w.stride;
            p.index = nullptr;
            p.depth = w.columns - j < W ? w.columns - j : W;
            add_sign_sums(p, rows, w.first, w.last);
        }
}

#define SIMPLEMATCH_INSTANTIATE(T)                              \
    template void score_gradients<T>(const ScoreGradientWork<T>&); \
    template void sum_for_rows<T>(const LineSums<T>&);             \
    template void sum_for_columns<T>(const LineSums<T>&);          \
    template void sum_signs<T>(const ChunkSigns<T>&);
SIMPLEMATCH_INSTANTIATE(float)
SIMPLEMATCH_INSTANTIATE(double)

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL

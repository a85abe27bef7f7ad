// match_all: the best of every vector of `a` among those of `b` and the other way round, and the sums of their softmaxes.
//
//     s[n, m] = <a_n, b_m> / D(a_n) / D(b_m)      dot: <a_n, b_m>      l2: -|a_n - b_m|^2
//     l1: -sum_c |a_nc - b_mc|
//     best_n = max_m s[n, m]      best_m = max_n s[n, m]      sum_n = sum_m exp(s[n, m] / T)      sum_m = sum_n exp(s[n, m] / T)
//
// 2 N M C operations, and two or three for each score beyond them: a tile of scores is compared with the bests as a whole,
// and only a tile that holds a better one is looked at again. That happens log N times to a column, log M times to a row.
#include "tile_scores.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

template <class T>
using Integers = typename Simd<T>::Integers;

// What the columns of one panel know so far.
template <class T>
struct ColumnState {
    T best[kPanelColumns<T>];
    T second[kPanelColumns<T>];
    T index[kPanelColumns<T>];  // bits of integers as wide as T
    T sum[kPanelColumns<T>];    // of this block of rows
};

template <class T>
struct Matcher {
    static constexpr int W = kPanelColumns<T>, n = kLanes<T>;
    const MatchAllWork<T>& w;
    T* const tile;        // (kPanelRows, W)
    T* const row_sums;    // (rows, n)
    const T inverse_temperature = T(w.summation.inverse_temperature), shift = T(w.summation.shift);
    const bool moving = w.summation.wanted && !w.summation.fixed_shift;
    ColumnState<T> columns{};

    T rescaling(T before, T after) const {
        return before == after ? T(1) : T(__builtin_exp((double(before) - double(after)) * w.summation.inverse_temperature));
    }

    void begin_rows() {
        for (int64_t r = 0; r < w.rows; ++r) {
            w.of_rows.score[r] = -T(__builtin_inf());
            w.of_rows.index[r] = -1;
            if (w.of_rows.second != nullptr) w.of_rows.second[r] = -T(__builtin_inf());
        }
        for (int64_t i = 0; w.summation.wanted && i < round_up(w.rows, kPanelRows) * n; ++i) row_sums[i] = 0;
    }

    void end_rows() {
        for (int64_t r = 0; w.summation.wanted && r < w.rows; ++r) {
            double total = 0;
            for (int i = 0; i < n; ++i) total += double(row_sums[r * n + i]);
            w.of_rows.sum[r] = total;
        }
    }

    void begin_columns(int64_t first, int64_t count) {
        for (int64_t j = 0; j < W; ++j) {
            const bool exists = j < count;
            columns.best[j] = exists ? w.of_columns.score[first + j] : T(__builtin_inf());
            columns.index[j] = bit_cast<T>(Integer(exists ? w.of_columns.index[first + j] : -1));
            columns.second[j] = exists && w.of_columns.second != nullptr ? w.of_columns.second[first + j] : columns.best[j];
            columns.sum[j] = 0;
        }
    }

    void end_columns(int64_t first, int64_t count) {
        for (int64_t j = 0; j < count; ++j) {
            if (w.summation.wanted) {
                double& total = w.of_columns.sum[first + j];
                const T before = w.of_columns.score[first + j];
                if (moving && total != 0) total *= double(rescaling(before, columns.best[j]));
                total += double(columns.sum[j]);
            }
            w.of_columns.score[first + j] = columns.best[j];
            w.of_columns.index[first + j] = int32_t(bit_cast<Integer>(columns.index[j]));
            if (w.of_columns.second != nullptr) w.of_columns.second[first + j] = columns.second[j];
        }
    }

    // Whether one of the scores of row i is greater than a number.
    SIMPLEMATCH_INLINE uint64_t row_exceeds(int i, T bound) const {
        Vector<T> most = load<T>(tile + i * W);
#pragma GCC unroll 8
        for (int v = 1; v < kPanelVectors; ++v) most = larger<T>(load<T>(tile + i * W + v * n), most);
        return greater_lanes<T>(most, broadcast(bound));
    }

    void better_in_row(int64_t r, int i, int64_t first_column) {
        Vector<T> most = load<T>(tile + i * W);
        for (int v = 1; v < kPanelVectors; ++v) most = larger<T>(load<T>(tile + i * W + v * n), most);
        const T best = largest_lane<T>(most), before = w.of_rows.score[r];
        if (w.of_rows.second != nullptr) {
            T first = before, second = w.of_rows.second[r];
            for (int j = 0; j < W; ++j) {
                const T s = tile[i * W + j];
                second = s > first ? first : s > second ? s : second;
                first = s > first ? s : first;
            }
            w.of_rows.second[r] = second;
        }
        if (!(best > before)) return;
        uint64_t equal = 0;
        int v = 0;
        while ((equal = equal_lanes<T>(load<T>(tile + i * W + v * n), broadcast(best))) == 0) ++v;
        const int j = v * n + __builtin_ctzll(equal);
        w.of_rows.score[r] = best;
        w.of_rows.index[r] = int32_t(first_column + j);
        if (moving) store<T>(row_sums + r * n, load<T>(row_sums + r * n) * rescaling(before, best));
    }

    void better_in_columns(int v, int64_t first_row) {
        Vector<T> best = load<T>(columns.best + v * n), second = load<T>(columns.second + v * n);
        const Vector<T> before = best;
        Integers<T> index = (Integers<T>)load<T>(columns.index + v * n);
        for (int i = 0; i < kPanelRows; ++i) {
            const Vector<T> s = load<T>(tile + i * W + v * n);
            const auto better = s > best;
            second = better ? best : larger<T>(s, second);
            best = better ? s : best;
            index = better ? Integers<T>{} + Integer(first_row + i) : index;
        }
        store<T>(columns.best + v * n, best);
        store<T>(columns.index + v * n, (Vector<T>)index);
        store<T>(columns.second + v * n, w.of_columns.second != nullptr ? second : best);
        if (moving) {
            const Vector<T> factor = exponential((before - best) * inverse_temperature);
            const Vector<T> sum = load<T>(columns.sum + v * n);
            store<T>(columns.sum + v * n, before == best ? sum : sum * factor);
        }
    }

    // `r`: the panel's first row, counted in the block.
    SIMPLEMATCH_INLINE void find_bests(int64_t r, int64_t rows, int64_t first_column) {
        const T* const bounds = (w.of_rows.second != nullptr ? w.of_rows.second : w.of_rows.score) + r;
        uint64_t better[kPanelRows], any = 0;
#pragma GCC unroll 8
        for (int i = 0; i < kPanelRows; ++i) any |= better[i] = i < rows ? row_exceeds(i, bounds[i]) : 0;
        if (any != 0)
            for (int i = 0; i < rows; ++i)
                if (better[i] != 0) better_in_row(r + i, i, first_column);
#pragma GCC unroll 8
        for (int v = 0; v < kPanelVectors; ++v) {
            Vector<T> most = load<T>(tile + v * n);
#pragma GCC unroll 8
            for (int i = 1; i < kPanelRows; ++i) most = larger<T>(load<T>(tile + i * W + v * n), most);
            if (greater_lanes<T>(most, load<T>(columns.second + v * n)) != 0) better_in_columns(v, w.first_row + r);
        }
    }

    // One exponential serves the row and the column.
    SIMPLEMATCH_INLINE void add_with_fixed_shift(int64_t r) {
        Vector<T> of_columns[kPanelVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kPanelVectors; ++v) of_columns[v] = load<T>(columns.sum + v * n);
        for (int i = 0; i < kPanelRows; ++i) {
            T* const of_row = row_sums + (r + i) * n;
            Vector<T> sum = load<T>(of_row);
#pragma GCC unroll 8
            for (int v = 0; v < kPanelVectors; ++v) {
                const Vector<T> e = exponential(load<T>(tile + i * W + v * n) * inverse_temperature - shift);
                sum += e;
                of_columns[v] += e;
            }
            store<T>(of_row, sum);
        }
#pragma GCC unroll 8
        for (int v = 0; v < kPanelVectors; ++v) store<T>(columns.sum + v * n, of_columns[v]);
    }

    void add_with_moving_shift(int64_t r, int64_t rows) {
        for (int v = 0; v < kPanelVectors; ++v) {
            const Vector<T> best = load<T>(columns.best + v * n);
            Vector<T> sum = load<T>(columns.sum + v * n);
            for (int i = 0; i < rows; ++i) {
                const Vector<T> s = load<T>(tile + i * W + v * n);
                T* const of_row = row_sums + (r + i) * n;
                store<T>(of_row, load<T>(of_row) + exponential((s - w.of_rows.score[r + i]) * inverse_temperature));
                sum += exponential((s - best) * inverse_temperature);
            }
            store<T>(columns.sum + v * n, sum);
        }
    }

    // Any scores. NaN is greater than everything, and the first of several stays.
    void take_one(T s, T& best, T& second, bool& first) const {
        const bool better = first || (s != s ? best == best : s > best);
        if (better && !first) second = best;
        if (!better && (s != s ? second == second : s > second)) second = s;
        if (better) best = s;
        first = better;
    }

    SIMPLEMATCH_INLINE void add_one(T s, T before, T best, bool changed, T& sum) const {
        if (!w.summation.wanted) return;
        if (moving && changed && before - before == 0 && best - best == 0) sum *= rescaling(before, best);
        if (s - s != 0 || (moving && best - best != 0)) return;
        const double inverse = w.summation.inverse_temperature;  // differences first: products of large scores would round
        sum += T(__builtin_exp(moving ? (double(s) - double(best)) * inverse : double(s) * inverse - w.summation.shift));
    }

    void take_one_by_one(int64_t r, int64_t rows, int64_t first_column, int64_t count) {
        for (int64_t i = 0; i < rows; ++i) {
            T* const of_row = row_sums + (r + i) * n;  // in one lane from here on, so that a new best rescales all of it
            for (int k = 1; w.summation.wanted && k < n; ++k) {
                of_row[0] += of_row[k];
                of_row[k] = 0;
            }
            for (int64_t j = 0; j < count; ++j) {
                const T s = tile[i * W + j];
                T unused = 0;
                const Bests<T>& own = w.of_rows;
                T before = own.score[r + i];
                bool first = own.index[r + i] < 0;
                take_one(s, own.score[r + i], own.second == nullptr ? unused : own.second[r + i], first);
                if (first) own.index[r + i] = int32_t(first_column + j);
                add_one(s, before, own.score[r + i], first, of_row[0]);

                before = columns.best[j];
                first = bit_cast<Integer>(columns.index[j]) < 0;
                take_one(s, columns.best[j], columns.second[j], first);
                if (first) columns.index[j] = bit_cast<T>(Integer(w.first_row + r + i));
                if (w.of_columns.second == nullptr) columns.second[j] = columns.best[j];
                add_one(s, before, columns.best[j], first, columns.sum[j]);
            }
        }
    }

private:
    using Integer = typename std::conditional<std::is_same<T, float>::value, int32_t, int64_t>::type;
};

}  // namespace

template <class T>
void match(const MatchAllWork<T>& w) {
    constexpr int W = kPanelColumns<T>;
    const int64_t channels = w.b.channels();
    T* const panel = w.scratch;
    T* const tile = panel + (channels + 1) * W;
    Matcher<T> matcher{w, tile, tile + kPanelRows * W};
    matcher.begin_rows();
    for (int64_t p = w.first_panel; p < w.last_panel; ++p) {
        const int64_t first = p * W, count = w.b.count - first < W ? w.b.count - first : W;
        pack_panel<T, W>(w.b, first, panel);
        matcher.begin_columns(first, count);
        const bool separate = any_separate(w.b, first, count);
        for (int64_t r = 0; r < w.rows; r += kPanelRows) {
            const int64_t rows = w.rows - r < kPanelRows ? w.rows - r : kPanelRows;
            const TileOf<T> here{w.a, w.b, w.first_row + r, rows, first, count, separate};
            meet_panels(w.a.metric, w.a_panels + r * channels, panel, channels, tile);
            if (finish_scores(here, tile, true)) {
                matcher.find_bests(r, rows, first);
                if (!w.summation.wanted) continue;
                if (w.summation.fixed_shift) {
                    matcher.add_with_fixed_shift(r);
                } else {
                    matcher.add_with_moving_shift(r, rows);
                }
            } else {
                matcher.take_one_by_one(r, rows, first, count);
            }
        }
        matcher.end_columns(first, count);
    }
    matcher.end_rows();
}

template void match<float>(const MatchAllWork<float>&);
template void match<double>(const MatchAllWork<double>&);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL

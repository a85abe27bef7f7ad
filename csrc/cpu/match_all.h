// The steps of match_all for one instruction set, and what they share with the driver.
//
// A set is one side of one image: the vectors that are valid, which count from 0 on. Vectors meet in panels, [channel][vector]:
// those of `a` kPanelRows wide, those of `b` kPanelColumns wide. A block of panels of `a` stays packed while all of `b` passes,
// panel by panel; so each panel of `b` is packed once for each block, and nothing of N x M numbers exists.
//
// What is packed makes every score a product of sums: cosine a / D(a); l2 a - centre; dot a. For l1 it is a too, and scores are sums of differences. Vectors that float32 sums do
// not suit are marked, and packed as zeros if no factor helps; their scores are computed one by one.
#pragma once

#include "common/metric.h"
#include "memory.h"

namespace simplematch::cpu {

constexpr int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

constexpr int64_t kMostPanelRows = 8, kMostPanelColumns = 48;

// Marks of vectors.
enum : uint8_t {
    kOrdinary = 0,
    kScaled = 1,    // cosine: the norm's square leaves the type; packed from float64 products, then like any other
    kSeparate = 2,  // scores computed one by one: not finite, or dot, l2 and l1 of squares that leave the type
};

template <class T>
struct VectorSet {
    View view;             // (B, C, H, W)
    int64_t image;
    const int32_t* cells;  // (count): the vectors' flat cells, or null: all cells
    int64_t count;
    Metric metric;
    const T* centre;       // l2: (C), subtracted; else null
    T* norm;               // (H * W), of the vectors themselves, or null: not wanted
    T* factor;             // cosine: (count), 1 / D; else null
    T* square;             // l2: (count), of what is packed; else null
    uint8_t* mark;         // (count)

    int64_t channels() const { return view.size[1]; }
    int64_t cell(int64_t i) const { return cells == nullptr ? i : cells[i]; }
    int64_t offset(int64_t i) const {
        const int64_t m = cell(i), width = view.size[3];
        return image * view.stride[0] + m / width * view.stride[2] + m % width * view.stride[3];
    }
};

// The best of a vector's scores so far, and the sum of exp(score / T - shift): shift is the same for all scores where that
// loses nothing, else the best score / T.
template <class T>
struct Bests {
    T* score;         // -inf before the first
    int32_t* index;   // -1 before the first
    T* second;        // or null: not wanted
    double* sum;      // or null: not wanted
};

// How scores become summands.
struct Summation {
    bool wanted;
    double inverse_temperature;
    bool fixed_shift;
    double shift;
};

// Panels [first, last) of `b` meet the packed block of `a`.
template <class T>
struct MatchAllWork {
    const VectorSet<T>& a;
    const VectorSet<T>& b;
    Summation summation;
    int64_t first_row, rows;  // of the block
    const T* a_panels;
    int64_t first_panel, last_panel;
    Bests<T> of_rows;         // (rows): written, of these panels only
    Bests<T> of_columns;      // (b.count): go on
    T* scratch;
};

// The backward. With l / T from the gradients that arrive at the log_sum_exp of the rows and the columns,
//
//     ds[n, m] = exp(s[n, m] / T - log_sum_exp_n) l_n / T + exp(s[n, m] / T - log_sum_exp_m) l_m / T
//
// Where the shift is fixed, `weight` is l / T exp(shift - log_sum_exp), so that one exponential serves both terms. Else it is
// l / T, and s / T - log_sum_exp is (s - best) / T + log_best, which keeps its digits where both are large.
template <class T>
struct SoftmaxWeights {
    T* weight;    // (count)
    T* best;      // (count)
    T* log_best;  // (count), best / T - log_sum_exp
};

// ds of the rows of a block and one panel of `b`, 0 where a vector is kSeparate, and the panel's vectors as lines.
template <class T>
struct ScoreGradientWork {
    const VectorSet<T>& a;
    const VectorSet<T>& b;
    Summation summation;
    int64_t first_row, rows;
    const T* a_panels;
    int64_t panel;
    SoftmaxWeights<T> of_rows, of_columns;
    T* gradients;    // (rows rounded up to panels, panel_columns)
    T* lines;        // (panel_columns, stride), or null: not wanted
    int64_t stride;
    double* moment;  // sum of ds * s, or null: not wanted
    T* scratch;
};

// Sums of the lines of one set with weights ds, over `channels` channels from a first one on.
template <class T>
struct LineSums {
    const T* gradients;  // of all panels: (panels, row_capacity, panel_columns)
    int64_t row_capacity, rows, columns;
    const T* lines;      // of the other set, from the first channel on
    T* sums;             // of this set, likewise
    int64_t stride, channels;
    bool add;
};

// Both sums of the metric l1 for a block and a chunk, channels [first, last): a_n += sum_m ds[n, m] sign(b_m - a_n), and
// b_m -= sum_n of the same.
template <class T>
struct ChunkSigns {
    const T* gradients;  // (panels, row_capacity, panel_columns)
    int64_t row_capacity, rows, columns;
    const T *a_lines, *b_lines;
    T *a_sums, *b_sums;  // null: not wanted
    bool add_to_a, add_to_b;
    int64_t stride, first, last;
};

template <class T>
struct MatchAllSteps {
    int64_t panel_rows, panel_columns, lanes;
    // Norms, factors, squares and marks of the panel_columns vectors from `first` on; returns the greatest square of what is
    // packed of them, infinity if one is kSeparate and may have any score. `scratch` holds a panel of `b`.
    double (*measure)(const VectorSet<T>& set, int64_t first, T* scratch);
    // The panel of `a` from vector `first` on.
    void (*pack_rows)(const VectorSet<T>& set, int64_t first, T* panel);
    // panel_columns vectors as lines [vector][channel] of `stride` numbers: what a panel holds, then one 1, then zeros.
    void (*pack_lines)(const VectorSet<T>& set, int64_t first, T* lines, int64_t stride, T* scratch);
    // sum += weight * line, of vector i; elements that are not finite count as 0.
    void (*add_line)(const VectorSet<T>& set, int64_t i, T weight, T* sum);
    // The score of one pair from float64 products of what the sets hold, for marks of kSeparate.
    double (*separate_score)(const VectorSet<T>& a, int64_t n, const VectorSet<T>& b, int64_t m);
    void (*match)(const MatchAllWork<T>& work);
    void (*score_gradients)(const ScoreGradientWork<T>& work);
    // sums_n += sum_m ds[n, m] line_m for panel_rows rows, whose gradients begin at `gradients`
    void (*sum_for_rows)(const LineSums<T>& work);
    // sums_m (+)= sum_n ds[n, m] line_n for the columns of one panel
    void (*sum_for_columns)(const LineSums<T>& work);
    // l1: in place of both, and of add_line: sum += weight * sign(other_j - set_i)
    void (*sum_signs)(const ChunkSigns<T>& work);
    void (*add_signs)(const VectorSet<T>& set, int64_t i, const VectorSet<T>& other, int64_t j, T weight, T* sum);

    int64_t panel_scratch(int64_t channels) const { return (channels + 1) * panel_columns; }
    int64_t match_scratch(int64_t channels, int64_t rows) const {
        return panel_scratch(channels) + panel_rows * panel_columns + round_up(rows, panel_rows) * lanes;
    }
    // With a channel of ones, which sums the weights; whole vectors, and no multiple of a page.
    int64_t line_stride(int64_t channels) const { return round_up(channels + 1, 16) + 16; }
};

}  // namespace simplematch::cpu

// What a cross entropy adds to a match over the whole map, row by row.
//
//     loss = log sum_m exp(s[m] / T) - sum_m G[m] s[m] / T          ds[m] = g / T (P[m] - G[m])
//     dT   = -g / T^2 (sum_m P[m] s[m] - sum_m G[m] s[m])
//
// P and the first terms are those of `localize` and `localize_backward`, with g for the gradient of the log-sum-exp.
#pragma once

#include "common/truth.h"
#include "driver.h"

namespace simplematch::cpu {

class CrossEntropy {
public:
    explicit CrossEntropy(const CrossEntropyProblem& p) : p_(p) {}

    // The loss of row (b, n) and its nearest cell, from the scores of the map and their log-sum-exp.
    template <class T>
    void write_loss(const RowWork<T>& row, double log_sum_exp, int64_t b, int64_t n, const CrossEntropyResult& result) const;

    // Takes G out of the gradients of row (b, n), which `localize_backward` made of the log-sum-exp's.
    template <class T>
    void subtract(const RowWork<T>& row, RowGradient<T>& gradient, int64_t b, int64_t n) const;

private:
    // Calls f(cell, G) for the cells of row (b, n) whose G is above zero; whether there is one.
    template <class F>
    bool for_each_true_cell(const TrueWindow& window, const uint8_t* mask, F&& f) const;
    TrueWindow window_of(int64_t b, int64_t n) const;

    const CrossEntropyProblem& p_;
};

// Where a match is part of a cross entropy, and its losses go; or null.
struct Losses {
    const CrossEntropy& of;
    const CrossEntropyResult& result;
};

template <class T>
void match_forward(const MatchProblem& p, const MatchResult& result, const Losses* losses, int threads);
template <class T>
void match_backward(const MatchProblem& p, const MatchResult& forward, const Upstream& upstream,
                    const MatchGradients& wanted, const CrossEntropy* truth, int threads);

}  // namespace simplematch::cpu

// What the forward and the backward of match_all share: blocks, the softmax, and threads.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "vector_sets.h"

namespace simplematch::cpu {

// How a problem is cut, whatever the number of threads.
struct Blocks {
    int64_t rows;    // of `a`
    int64_t panels;  // of `b`
    int64_t panels_of_group;
    int64_t groups;
    int64_t panel_rows, panel_columns;

    // 1 MiB of `a`, so that it fits the second level of the cache or nearly so; at most 2048 rows, so that no sum grows long.
    template <class T>
    Blocks(const MatchAllProblem& p, const MatchAllSteps<T>& steps)
        : panel_rows(steps.panel_rows), panel_columns(steps.panel_columns) {
        const int64_t row_bytes = std::max<int64_t>(1, p.a.size[1]) * int64_t(sizeof(T)), all = cells_of(p.a);
        const int64_t most = std::min<int64_t>(2048, std::max<int64_t>(64, (1 << 20) / row_bytes) / panel_rows * panel_rows);
        const int64_t blocks = std::max<int64_t>(1, (all + most - 1) / most);
        rows = std::max(panel_rows, round_up((all + blocks - 1) / blocks, panel_rows));
        panels_of_group = std::max<int64_t>(1, std::min<int64_t>(256, (panels_of(cells_of(p.b)) + 63) / 64));
        choose(cells_of(p.b));
    }

    // Of an image with so many vectors of `b`: never more panels and groups than there are for all of them.
    Blocks with(int64_t count_b) const {
        Blocks blocks = *this;
        blocks.choose(count_b);
        return blocks;
    }

private:
    int64_t panels_of(int64_t count) const { return (count + panel_columns - 1) / panel_columns; }

    void choose(int64_t count_b) {
        panels = panels_of(count_b);
        groups = (panels + panels_of_group - 1) / panels_of_group;
    }
};

// Temperature and bin of one image, and how its scores are summed.
struct Softmax {
    double temperature, bin_score;
    Summation summation;

    // `most_a`, `most_b`: greatest squares of what is packed, which bound all scores.
    Softmax(const MatchAllProblem& p, int64_t b, bool wanted, double most_a, double most_b)
        : temperature(number(p.temperature, p.fixed_temperature, b)),
          bin_score(number(p.bin_score, p.fixed_bin_score, b)),
          summation{wanted, 1 / temperature, false, 0} {
        const double length_a = std::sqrt(most_a), length_b = std::sqrt(most_b);
        const bool absolute = p.metric.kind == SIMPLEMATCH_L1, distances = absolute || p.metric.kind == SIMPLEMATCH_L2;
        const double most = distances ? 0 : length_a * length_b, length = length_a + length_b;
        // absolute differences add up to at most the square root of their number times the length of the difference
        const double least = absolute    ? -length * std::sqrt(double(p.a.size[1]))
                             : distances ? -length * length
                                         : -most;
        // exp then neither overflows nor vanishes, and its argument keeps its digits
        summation.fixed_shift = (most - least) * summation.inverse_temperature <= (distances ? 60 : 120);
        summation.shift = (most + least) / 2 * summation.inverse_temperature;
    }

    bool has_bin() const { return bin_score != -std::numeric_limits<double>::infinity(); }

    // score / T as T holds it: the forward and the backward must take the same number from a log_sum_exp.
    template <class T>
    double divided(double score) const {
        return double(T(score / temperature));
    }

    template <class T>
    double with_bin(double log_sum_exp) const {
        if (!(temperature > 0)) return std::numeric_limits<double>::quiet_NaN();
        if (!has_bin()) return log_sum_exp;
        const double of_bin = divided<T>(bin_score);
        if (log_sum_exp != log_sum_exp || of_bin != of_bin) return log_sum_exp + of_bin;
        const double greater = std::max(log_sum_exp, of_bin), smaller = std::min(log_sum_exp, of_bin);
        return greater - greater == 0 ? greater + std::log1p(std::exp(smaller - greater)) : greater;
    }

    double of_bin_alone() const { return has_bin() ? bin_score / temperature : 0; }

private:
    static double number(const View& given, double fixed, int64_t b) {
        return is_given(given) ? read_element(given, b * given.stride[0]) : fixed;
    }
};

// All threads work at one image, or each at its own where images are many and small. `make(threads)` makes a worker, before
// any thread starts; its run(b) does image b.
template <class Worker, class Make>
void for_each_image(const MatchAllProblem& p, int wanted_threads, Make&& make) {
    const int64_t batch = p.a.size[0];
    const double rows = double(cells_of(p.a)), columns = double(cells_of(p.b)), channels = double(p.a.size[1]);
    const double operations = rows * columns * (channels + 16) + (rows + columns) * channels;
    const int threads = threads_for(wanted_threads, operations * double(batch) / 16);  // several barriers each
    const bool own_images = threads > 1 && batch >= 2 * threads && operations < 1e8;
    std::vector<std::unique_ptr<Worker>> workers;
    for (int i = 0; i < (own_images ? threads : 1); ++i) workers.push_back(make(own_images ? 1 : threads));
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (own_images)
    for (int64_t b = 0; b < batch; ++b) workers[own_images ? size_t(thread_index()) : 0]->run(b);
}

}  // namespace simplematch::cpu

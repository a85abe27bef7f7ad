// pair_scores: a few pairs are a task of the forward, a few rows of a set one of the backward.
#include "driver.h"
#include "pair_scores.h"

namespace simplematch::cpu {
namespace {

int64_t tasks_of(int64_t items) { return (items + kMostPairRows - 1) / kMostPairRows; }

// Numbers of a thread: a row of sums, and copies of rows of those maps that need them.
int64_t scratch_of(std::initializer_list<View> maps) {
    int64_t copied = 0;
    for (const View& map : maps) copied += has_rows(map) ? 0 : kMostPairRows;
    return (1 + copied) * cell_row(maps.begin()->size[1]);
}

int threads_of(const PairProblem& p, int threads) {
    return threads_for(threads, double(p.a.size[0]) * double(p.pairs) * double(p.a.size[1]) * 4);
}

// Sorts the pairs of image b by the rows of `own`, in one pass that counts and one that lists.
void list_pairs(const PairSide& own, const PairSide& other, int64_t pairs, int64_t b, int64_t* starts, int64_t* orders) {
    const int64_t rows = own.rows(), *const index = own.index + b * pairs, *const others = other.index + b * pairs;
    int64_t *const start = starts + b * (rows + 2), *const order = orders + b * pairs;
    const auto counts = [&](int64_t k) { return index[k] >= 0 && index[k] < rows && others[k] >= 0; };
    std::fill(start, start + rows + 2, 0);
    for (int64_t k = 0; k < pairs; ++k)
        if (counts(k)) ++start[index[k] + 2];
    for (int64_t n = 0; n < rows; ++n) start[n + 2] += start[n + 1];
    for (int64_t k = 0; k < pairs; ++k)
        if (counts(k)) order[start[index[k] + 1]++] = k;
}

}  // namespace

void run(const PairProblem& p, const PairResult& result, int wanted_threads) {
    const int64_t batch = p.a.size[0], tasks = tasks_of(p.pairs);
    const int threads = threads_of(p, wanted_threads);
    const ThreadScratch<double> scratch(threads, scratch_of({p.a, p.b}));
    const PairSteps& steps = kernels<double>().pairs;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < batch * tasks; ++task) {
        const int64_t first = task % tasks * kMostPairRows, last = std::min(first + kMostPairRows, p.pairs);
        steps.scores(p, task / tasks, first, last, result.scores, scratch.mine());
    }
}

void run_backward(const PairProblem& p, const PairResult& forward, const PairUpstream& upstream,
                  const PairGradients& wanted, int wanted_threads) {
    const int64_t batch = p.a.size[0];
    const int threads = threads_of(p, wanted_threads);
    const Buffer<int64_t> start_a(batch * (cells_of(p.a) + 2)), start_b(batch * (cells_of(p.b) + 2));
    const Buffer<int64_t> order_a(batch * p.pairs), order_b(batch * p.pairs);
    const PairSide a{p.a, wanted.a, p.index_a, start_a.get(), order_a.get()};
    const PairSide b{p.b, wanted.b, p.index_b, start_b.get(), order_b.get()};
    const bool both = is_given(wanted.a) && is_given(wanted.b) && has_rows(wanted.b);
    const PairBackward passes[2] = {{a, b, p.pairs, upstream.scores, forward.scores, p.metric, both, false},
                                    {b, a, p.pairs, upstream.scores, forward.scores, p.metric, false, both}};
    const ThreadScratch<double> scratch(threads, scratch_of({p.a, p.b, wanted.a, wanted.b}));
    const PairSteps& steps = kernels<double>().pairs;
    prepare_output(wanted.a);
    prepare_output(wanted.b);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t task = 0; task < 2 * batch; ++task) {
            const bool of_a = task < batch;
            list_pairs(of_a ? a : b, of_a ? b : a, p.pairs, task % batch, (of_a ? start_a : start_b).get(),
                       (of_a ? order_a : order_b).get());
        }
        for (const PairBackward& pass : passes) {
            if (!is_given(pass.own.gradient)) continue;
            const int64_t rows = pass.own.rows(), tasks = tasks_of(rows);
#pragma omp for schedule(dynamic, 4)
            for (int64_t task = 0; task < batch * tasks; ++task) {
                const int64_t first = task % tasks * kMostPairRows, last = std::min(first + kMostPairRows, rows);
                steps.gradient(pass, task / tasks, first, last, scratch.mine());
            }
        }
    }
}

}  // namespace simplematch::cpu

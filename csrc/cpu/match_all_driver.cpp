// match_all: blocks of vectors of `a` against all panels of `b`, and what is left of the blocks.
//
// A block of `a` is packed once and stays in the second level of the cache; groups of panels of `b` are shared out among the
// threads. The results of a column go on from block to block; those of a row are merged group by group. Blocks and groups
// depend on the problem alone, so results do not depend on the number of threads.
#include "match_all_driver.h"

namespace simplematch::cpu {
namespace {

template <class T>
struct BestsBuffer {
    Buffer<T> score, second;
    Buffer<int32_t> index;
    Buffer<double> sum;

    BestsBuffer(int64_t count, bool wants_second, bool wants_sum) : score(count), index(count) {
        if (wants_second) second = Buffer<T>(count);
        if (wants_sum) sum = Buffer<double>(count);
    }

    Bests<T> from(int64_t i) const {
        return {score.get() + i, index.get() + i, second.get() == nullptr ? nullptr : second.get() + i,
                sum.get() == nullptr ? nullptr : sum.get() + i};
    }

    void clear(int64_t count) const {
        for (int64_t i = 0; i < count; ++i) {
            score[i] = -std::numeric_limits<T>::infinity();
            index[i] = -1;
            if (second.get() != nullptr) second[i] = -std::numeric_limits<T>::infinity();
            if (sum.get() != nullptr) sum[i] = 0;
        }
    }
};

// What arrives at one side: (B, N) of each.
template <class T>
struct SideResult {
    int64_t* index;
    T* score;
    T* log_sum_exp;
    T* second;
    uint8_t* mutual;

    SideResult of_image(int64_t first) const {
        return {index + first, score + first, log_sum_exp == nullptr ? nullptr : log_sum_exp + first,
                second == nullptr ? nullptr : second + first, mutual == nullptr ? nullptr : mutual + first};
    }

    void write_padding(int64_t cell, double padded_log_sum_exp) const {
        index[cell] = -1;
        score[cell] = 0;
        if (log_sum_exp != nullptr) log_sum_exp[cell] = T(padded_log_sum_exp);
        if (second != nullptr) second[cell] = 0;
        if (mutual != nullptr) mutual[cell] = 0;
    }
};

// Of one vector over several groups.
template <class T>
struct Merged {
    T score = -std::numeric_limits<T>::infinity(), second = score;
    int64_t index = -1;
    double sum = 0;

    static bool exceeds(T a, T b) { return a != a ? b == b : a > b; }

    void take(const Bests<T>& group, int64_t i, const Summation& summation) {
        if (group.index[i] < 0) return;
        const T s = group.score[i], other = group.second == nullptr ? -std::numeric_limits<T>::infinity() : group.second[i];
        const bool better = index < 0 || exceeds(s, score);
        const T loser = better ? score : s;
        if (summation.wanted) {
            double mine = sum, theirs = group.sum[i];
            if (!summation.fixed_shift && index >= 0 && s != score) {  // equal ones need no factor, and infinities have none
                double& smaller = better ? mine : theirs;
                smaller *= std::exp((double(loser) - double(better ? s : score)) * summation.inverse_temperature);
            }
            sum = mine + theirs;
        }
        if (exceeds(loser, second)) second = loser;
        if (exceeds(other, second)) second = other;
        if (!better) return;
        score = s;
        index = group.index[i];
    }

    // log(sum of exp(s / T) + exp(bin / T))
    double log_sum_exp(const Softmax& softmax) const {
        double of_scores = softmax.template divided<T>(double(score));
        if (score - score == 0)
            of_scores = std::log(sum) + (softmax.summation.fixed_shift ? softmax.summation.shift : of_scores);
        return softmax.template with_bin<T>(of_scores);
    }
};

template <class T>
class Matching {
public:
    Matching(const MatchAllProblem& p, const MatchAllResult& result, int threads)
        : p_(p), result_(result), steps_(kernels<T>().match_all), threads_(threads), a_(p.a, p.rows_a, p.metric, steps_),
          b_(p.b, p.rows_b, p.metric, steps_), blocks_(p, steps_), panels_(blocks_.rows * p.a.size[1] + 64),
          of_rows_(blocks_.groups * blocks_.rows, wants_second(), wants_sum()),
          of_columns_(cells_of(p.b), wants_second(), wants_sum()),
          scratch_(threads, steps_.match_scratch(p.a.size[1], blocks_.rows)) {}

    void run(int64_t b) {
        a_.choose(b);
        b_.choose(b);
        SetData<T>::centre(a_, b_);
        const int64_t rows = cells_of(p_.a), columns = cells_of(p_.b);
        const double most_a = a_.measure(static_cast<T*>(result_.norm_a) + b * rows, threads_, scratch_);
        const double most_b = b_.measure(static_cast<T*>(result_.norm_b) + b * columns, threads_, scratch_);
        const Softmax softmax(p_, b, wants_sum(), most_a, most_b);
        const SideResult<T> side_a = side(true).of_image(b * rows), side_b = side(false).of_image(b * columns);
        const int64_t count_a = a_.set().count, count_b = b_.set().count;
        // without candidates there is the bin alone
        for (int64_t n = 0; n < rows; ++n) side_a.write_padding(n, 0);
        for (int64_t m = 0; m < columns; ++m) side_b.write_padding(m, 0);
        for (int64_t i = 0; count_b == 0 && i < count_a; ++i) side_a.write_padding(a_.set().cell(i), softmax.of_bin_alone());
        for (int64_t i = 0; count_a == 0 && i < count_b; ++i) side_b.write_padding(b_.set().cell(i), softmax.of_bin_alone());
        if (count_a == 0 || count_b == 0) return;

        of_columns_.clear(count_b);
        const Blocks blocks = blocks_.with(count_b);
        for (int64_t first = 0; first < count_a; first += blocks.rows)
            match_block(blocks, first, std::min(blocks.rows, count_a - first), softmax, side_a);
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1)
        for (int64_t m = 0; m < count_b; ++m) {
            Merged<T> merged;
            merged.take(of_columns_.from(0), m, softmax.summation);
            write(side_b, b_.set().cell(m), merged, a_.set(), softmax);
        }
        for (int64_t n = 0; n < rows; ++n) side_a.mutual[n] = side_a.index[n] >= 0 && side_b.index[side_a.index[n]] == n;
    }

private:
    bool wants_sum() const { return result_.log_sum_exp_a != nullptr; }
    bool wants_second() const { return result_.second_a != nullptr; }

    SideResult<T> side(bool of_a) const {
        const MatchAllResult& r = result_;
        const auto as_numbers = [](void* p) { return static_cast<T*>(p); };
        if (of_a) return {r.index_a, as_numbers(r.score_a), as_numbers(r.log_sum_exp_a), as_numbers(r.second_a), r.mutual};
        return {r.index_b, as_numbers(r.score_b), as_numbers(r.log_sum_exp_b), as_numbers(r.second_b), nullptr};
    }

    // Rows [first, first + rows) of `a` and all of `b`.
    void match_block(const Blocks& blocks, int64_t first, int64_t rows, const Softmax& softmax, const SideResult<T>& side) {
        const VectorSet<T>&a = a_.set(), &b = b_.set();
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1)
        for (int64_t r = 0; r < rows; r += steps_.panel_rows)
            steps_.pack_rows(a, first + r, panels_.get() + r * a.channels());
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1)
        for (int64_t group = 0; group < blocks.groups; ++group) {
            const int64_t panel = group * blocks.panels_of_group;
            steps_.match({a, b, softmax.summation, first, rows, panels_.get(), panel,
                          std::min(panel + blocks.panels_of_group, blocks.panels), of_rows_.from(group * blocks.rows),
                          of_columns_.from(0), scratch_.mine()});
        }
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1)
        for (int64_t r = 0; r < rows; ++r) {
            Merged<T> merged;
            for (int64_t group = 0; group < blocks.groups; ++group)
                merged.take(of_rows_.from(group * blocks.rows), r, softmax.summation);
            write(side, a.cell(first + r), merged, b, softmax);
        }
    }

    void write(const SideResult<T>& side, int64_t cell, const Merged<T>& found, const VectorSet<T>& others,
               const Softmax& softmax) const {
        side.index[cell] = others.cell(found.index);
        side.score[cell] = found.score;
        if (side.log_sum_exp != nullptr) side.log_sum_exp[cell] = T(found.log_sum_exp(softmax));
        if (side.second != nullptr) side.second[cell] = found.second;
    }

    const MatchAllProblem& p_;
    const MatchAllResult& result_;
    const MatchAllSteps<T> steps_;
    const int threads_;
    SetData<T> a_, b_;
    const Blocks blocks_;
    const Buffer<T> panels_;
    const BestsBuffer<T> of_rows_, of_columns_;
    const ThreadScratch<T> scratch_;
};

template <class T>
void match_images(const MatchAllProblem& p, const MatchAllResult& result, int wanted_threads) {
    for_each_image<Matching<T>>(
        p, wanted_threads, [&](int threads) { return std::make_unique<Matching<T>>(p, result, threads); });
}

}  // namespace

void run(const MatchAllProblem& problem, const MatchAllResult& result, int threads) {
    if (problem.a.dtype == SIMPLEMATCH_FLOAT64) return match_images<double>(problem, result, threads);
    match_images<float>(problem, result, threads);
}

}  // namespace simplematch::cpu

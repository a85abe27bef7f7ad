// match_all backward: blocks of `a` meet chunks of `b`, whose gradients of scores exist one block and chunk at a time.
//
// A thread takes a block and meets all chunks: of each, ds and the sums for the chunk's columns, panel by panel, then the sums
// for the block's rows. Only the sums for columns, (M, C) numbers, are shared: the blocks add to those of a chunk in the order
// of blocks, so each sum is made in one order. A thread rarely waits for the block before, which is a chunk ahead of it. To its
// sums, each vector adds what the pairs of bests bring it, and divides by its norm.
#include <atomic>
#include <thread>

#include "match_all_gradients.h"

namespace simplematch::cpu {
namespace {

// How far the blocks are: `next` is the next one to take, and `turn[chunk]` the one that may add to the chunk's columns.
class BlockOrder {
public:
    explicit BlockOrder(int64_t chunks) : turn_(size_t(chunks)) {}

    void begin() {
        next_ = 0;
        for (std::atomic<int64_t>& turn : turn_) turn = 0;
    }

    int64_t take() { return next_.fetch_add(1); }

    // Blocks are taken in order, so the block before is always at work or done.
    void wait(int64_t chunk, int64_t block) const {
        while (turn_[size_t(chunk)].load(std::memory_order_acquire) != block) std::this_thread::yield();
    }

    void pass_on(int64_t chunk, int64_t block) { turn_[size_t(chunk)].store(block + 1, std::memory_order_release); }

private:
    std::atomic<int64_t> next_{0};
    std::vector<std::atomic<int64_t>> turn_;
};

// What a thread holds of a block and a chunk, one after the other in its scratch memory.
template <class T>
struct BlockMemory {
    T *panels, *a_lines, *b_lines, *gradients, *a_sums;
};

template <class T>
class MatchingBackward {
public:
    MatchingBackward(const MatchAllProblem& p, const MatchAllResult& forward, const MatchAllUpstream& upstream,
                     const MatchAllGradients& wanted, int threads)
        : p_(p), wanted_(wanted), steps_(kernels<T>().match_all), threads_(threads),
          dense_(is_given(upstream.log_sum_exp_a) || is_given(upstream.log_sum_exp_b)),
          signs_(p.metric.kind == SIMPLEMATCH_L1),
          a_(p.a, p.b, p.rows_a, p.metric, {upstream.score_a, upstream.log_sum_exp_a, forward.index_a, forward.score_a,
                                            forward.log_sum_exp_a, forward.norm_a}, wanted.a, steps_),
          b_(p.b, p.a, p.rows_b, p.metric, {upstream.score_b, upstream.log_sum_exp_b, forward.index_b, forward.score_b,
                                            forward.log_sum_exp_b, forward.norm_b}, wanted.b, steps_),
          cut_(p, steps_), stride_(steps_.line_stride(p.a.size[1])), order_(dense_ ? chunks_of(cells_of(p.b)) : 0),
          team_(int(std::min<int64_t>(threads, std::max<int64_t>(1, blocks_of(cells_of(p.a)))))),
          memory_(team_, dense_ ? memory_of_block() : 0),
          b_sums_(sums_b() ? round_up(cells_of(p.b), steps_.panel_columns) * stride_ : 0),
          moments_(blocks_of(cells_of(p.a))),
          scratch_(threads, steps_.match_scratch(p.a.size[1], 0) + 2 * stride_) {}

    void run(int64_t b) {
        a_.data.choose(b);
        b_.data.choose(b);
        SetData<T>::centre(a_.data, b_.data);
        const double most_a = a_.data.measure(nullptr, threads_, scratch_);
        const double most_b = b_.data.measure(nullptr, threads_, scratch_);
        const Softmax softmax(p_, b, dense_, most_a, most_b);
        a_.read_upstream_of(b, softmax, b_);
        b_.read_upstream_of(b, softmax, a_);
        a_.list_choices(b_);
        b_.list_choices(a_);
        const bool dense = (a_.has_log_sum_exp() || b_.has_log_sum_exp()) && a_.set().count > 0 && b_.set().count > 0;
        moment_ = 0;
        if (dense) {
            add_blocks(softmax, b);
        } else {
            finish(a_, b_, nullptr, softmax, b);
        }
        finish(b_, a_, dense && sums_b() ? b_sums_.get() : nullptr, softmax, b);
        a_.write_padding(b);
        b_.write_padding(b);
        write_numbers(b, softmax);
    }

private:
    // Whether sums over the other side's vectors are made for one side's.
    bool sums_a() const { return dense_ && is_given(wanted_.a); }
    bool sums_b() const { return dense_ && is_given(wanted_.b); }
    // Signs need the lines of both sides for either gradient, products those of the other side.
    bool packs_a() const { return sums_b() || (signs_ && sums_a()); }
    bool packs_b() const { return sums_a() || (signs_ && sums_b()); }

    int64_t blocks_of(int64_t rows) const { return (rows + cut_.rows - 1) / cut_.rows; }
    int64_t panels_of(int64_t columns) const { return (columns + steps_.panel_columns - 1) / steps_.panel_columns; }
    int64_t chunks_of(int64_t columns) const { return (panels_of(columns) + cut_.panels - 1) / cut_.panels; }

    int64_t panels_size() const { return cut_.rows * p_.a.size[1] + 64; }
    int64_t a_lines_size() const { return packs_a() ? (cut_.rows + steps_.panel_columns) * stride_ : 0; }
    int64_t b_lines_size() const { return packs_b() ? cut_.panels * steps_.panel_columns * stride_ : 0; }
    int64_t gradients_size() const { return cut_.panels * steps_.panel_columns * cut_.rows; }
    int64_t memory_of_block() const {
        return round_up(panels_size(), 64) + a_lines_size() + b_lines_size() + gradients_size() +
               (sums_a() ? cut_.rows * stride_ : 0);
    }

    BlockMemory<T> my_memory() const {
        T* const panels = memory_.mine();
        T* const a_lines = panels + round_up(panels_size(), 64);
        T* const b_lines = a_lines + a_lines_size();
        T* const gradients = b_lines + b_lines_size();
        return {panels, a_lines, b_lines, gradients, gradients + gradients_size()};
    }

    void add_blocks(const Softmax& softmax, int64_t b) {
        const int64_t count = a_.set().count, blocks = blocks_of(count);
        order_.begin();
#pragma omp parallel num_threads(team_) if (team_ > 1)
        {
            const BlockMemory<T> memory = my_memory();
            for (int64_t block = order_.take(); block < blocks; block = order_.take()) {
                const int64_t first = block * cut_.rows, rows = std::min(cut_.rows, count - first);
                moments_[block] = add_block(block, first, rows, memory, softmax);
                moments_[block] += finish_rows(first, rows, sums_a() ? memory.a_sums : nullptr, softmax, b);
            }
        }
        for (int64_t block = 0; block < blocks; ++block) moment_ += moments_[block];
    }

    // Rows [first, first + rows) of `a` and all of `b`. Returns the sum of ds s.
    double add_block(int64_t block, int64_t first, int64_t rows, const BlockMemory<T>& memory, const Softmax& softmax) {
        const VectorSet<T>& a = a_.set();
        const int64_t columns = steps_.panel_columns, panels = panels_of(b_.set().count);
        for (int64_t r = 0; r < rows; r += steps_.panel_rows)
            steps_.pack_rows(a, first + r, memory.panels + r * a.channels());
        for (int64_t r = 0; packs_a() && r < rows; r += columns)
            steps_.pack_lines(a, first + r, memory.a_lines + r * stride_, stride_, scratch_.mine());
        double moment = 0;
        for (int64_t chunk = 0; chunk * cut_.panels < panels; ++chunk) {
            const int64_t panel = chunk * cut_.panels;
            moment += add_chunk(block, {first, rows}, chunk, std::min(cut_.panels, panels - panel), memory, softmax);
        }
        return moment;
    }

    struct RowRange {
        int64_t first, count;
    };

    double add_chunk(int64_t block, const RowRange& rows, int64_t chunk, int64_t panels, const BlockMemory<T>& memory,
                     const Softmax& softmax) {
        const VectorSet<T>&a = a_.set(), &b = b_.set();
        const int64_t columns = steps_.panel_columns, first_panel = chunk * cut_.panels, of_panel = cut_.rows * columns;
        // of the channels and, for l2, the sum of the weights behind them
        const int64_t channels = a.channels() + (p_.metric.kind == SIMPLEMATCH_L2 ? 1 : 0);
        double moment = 0;
        for (int64_t i = 0; i < panels; ++i) {
            T* const gradients = memory.gradients + i * of_panel;
            T* const lines = packs_b() ? memory.b_lines + i * columns * stride_ : nullptr;
            steps_.score_gradients({a, b, softmax.summation, rows.first, rows.count, memory.panels, first_panel + i,
                                    a_.weights(), b_.weights(), gradients, lines, stride_,
                                    is_given(wanted_.temperature) ? &moment : nullptr, scratch_.mine()});
            if (!sums_b() || signs_) continue;
            if (i == 0) order_.wait(chunk, block);
            T* const sums = b_sums_.get() + (first_panel + i) * columns * stride_;
            steps_.sum_for_columns(
                {gradients, cut_.rows, rows.count, columns, memory.a_lines, sums, stride_, channels, block > 0});
        }
        const int64_t count = std::min(panels * columns, b.count - first_panel * columns);
        if (signs_) {
            order_.wait(chunk, block);
            add_signs(rows.count, first_panel * columns, count, block > 0, memory);
        }
        order_.pass_on(chunk, block);
        if (!sums_a() || signs_) return moment;

        // A part of the channels of all lines of the chunk stays in the cache while the rows pass.
        for (int64_t c = 0; c < channels; c += columns)
            for (int64_t r = 0; r < rows.count; r += steps_.panel_rows)
                steps_.sum_for_rows({memory.gradients + r * columns, cut_.rows, rows.count - r, count, memory.b_lines + c,
                                     memory.a_sums + r * stride_ + c, stride_, std::min(columns, channels - c), chunk > 0});
        return moment;
    }

    // The sums of both sides for a block and a chunk of the metric l1, a few channels at a time.
    void add_signs(int64_t rows, int64_t first_column, int64_t count, bool add_to_b, const BlockMemory<T>& memory) {
        if (!is_given(wanted_.a) && !is_given(wanted_.b)) return;  // of the numbers alone
        const int64_t channels = a_.set().channels(), width = 4 * steps_.lanes;
        T* const a_sums = is_given(wanted_.a) ? memory.a_sums : nullptr;
        T* const b_sums = is_given(wanted_.b) ? b_sums_.get() + first_column * stride_ : nullptr;
        for (int64_t c = 0; c < channels; c += width)
            steps_.sum_signs({memory.gradients, cut_.rows, rows, count, memory.a_lines, memory.b_lines, a_sums, b_sums,
                              first_column > 0, add_to_b, stride_, c, std::min(channels, c + width)});
    }

    // Gradients of a block of `a`. Returns the sum of ds s over the pairs whose scores are computed one by one.
    double finish_rows(int64_t first, int64_t count, const T* sums, const Softmax& softmax, int64_t b) const {
        const bool with_moment = is_given(wanted_.temperature) && a_.any_separate(b_);
        if (!is_given(wanted_.a) && !with_moment) return 0;
        double moment = 0;
        for (int64_t i = 0; i < count; ++i)
            moment += finish_vector(a_, b_, first + i, sums == nullptr ? nullptr : sums + i * stride_, softmax, b);
        return with_moment ? moment : 0;
    }

    // Gradients of all vectors of one side.
    void finish(const GradientSide<T>& side, const GradientSide<T>& other, const T* sums, const Softmax& softmax, int64_t b) {
        if (!is_given(side.gradient)) return;
        const int64_t count = side.set().count;
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads_) if (threads_ > 1)
        for (int64_t i = 0; i < count; ++i)
            finish_vector(side, other, i, sums == nullptr ? nullptr : sums + i * stride_, softmax, b);
    }

    // The gradient of one vector; `sums` null: there are none.
    double finish_vector(const GradientSide<T>& side, const GradientSide<T>& other, int64_t i, const T* sums,
                         const Softmax& softmax, int64_t b) const {
        T* const line = scratch_.mine();
        T* const own = line + stride_;
        if (sums != nullptr) {
            std::copy_n(sums, stride_, line);
        } else {
            std::fill_n(line, stride_, T(0));
        }
        const double moment = side.add_separate(other, i, softmax, line);
        if (!is_given(side.gradient)) return moment;
        side.add_bests(other, i, line);
        side.finish(other, b, i, line, own);
        return moment;
    }

    void write_numbers(int64_t b, const Softmax& softmax) {
        double of_bin = 0, moment = moment_;
        bool is_nan = false;
        for (const GradientSide<T>* side : {&a_, &b_}) {
            const double weight = side->weight_of_bin(softmax);
            of_bin += weight;
            moment += weight == 0 ? 0 : weight * softmax.bin_score;
            is_nan |= side->has_nan();
        }
        const double nan = std::numeric_limits<double>::quiet_NaN();
        const View &temperature = wanted_.temperature, &bin = wanted_.bin_score;
        if (is_given(temperature))
            write_element(temperature, b * temperature.stride[0], is_nan ? nan : -moment / softmax.temperature);
        if (is_given(bin)) write_element(bin, b * bin.stride[0], is_nan && softmax.has_bin() ? nan : of_bin);
    }

    const MatchAllProblem& p_;
    const MatchAllGradients& wanted_;
    const MatchAllSteps<T> steps_;
    const int threads_;
    const bool dense_, signs_;
    GradientSide<T> a_, b_;
    const Chunks cut_;
    const int64_t stride_;
    BlockOrder order_;
    const int team_;  // threads that have blocks
    const ThreadScratch<T> memory_;
    const Buffer<T> b_sums_;
    const Buffer<double> moments_;  // of the blocks
    const ThreadScratch<T> scratch_;
    double moment_ = 0;
};

template <class T>
void match_images_backward(const MatchAllProblem& p, const MatchAllResult& forward, const MatchAllUpstream& upstream,
                           const MatchAllGradients& wanted, int wanted_threads) {
    prepare_output(wanted.a);
    prepare_output(wanted.b);
    for_each_image<MatchingBackward<T>>(p, wanted_threads, [&](int threads) {
        return std::make_unique<MatchingBackward<T>>(p, forward, upstream, wanted, threads);
    });
}

}  // namespace

void run_backward(const MatchAllProblem& problem, const MatchAllResult& forward, const MatchAllUpstream& upstream,
                  const MatchAllGradients& gradients, int threads) {
    if (problem.a.dtype == SIMPLEMATCH_FLOAT64)
        return match_images_backward<double>(problem, forward, upstream, gradients, threads);
    match_images_backward<float>(problem, forward, upstream, gradients, threads);
}

}  // namespace simplematch::cpu

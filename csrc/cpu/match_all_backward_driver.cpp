// match_all backward: blocks of `a` meet chunks of `b`, whose gradients of scores exist one block and chunk at a time.
//
// Of a block and a chunk: ds first, panel by panel; then the sums for the block's rows, and the sums for the chunk's columns.
// Each sum is made by one thread in one order. Sums for columns go on from block to block, (M, C) numbers; sums for rows are
// complete when all chunks have passed. To both, each vector adds what the pairs of bests bring it, and divides by its norm.
#include "match_all_gradients.h"

namespace simplematch::cpu {
namespace {

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
          cut_(p, steps_), stride_(steps_.line_stride(p.a.size[1])),
          panels_(dense_ ? cut_.rows * p.a.size[1] + 64 : 0),
          a_lines_(packs_a() ? (cut_.rows + steps_.panel_columns) * stride_ : 0),
          b_lines_(packs_b() ? cut_.panels * steps_.panel_columns * stride_ : 0),
          gradients_(dense_ ? cut_.panels * steps_.panel_columns * cut_.rows : 0),
          a_sums_(sums_a() ? cut_.rows * stride_ : 0),
          b_sums_(sums_b() ? round_up(cells_of(p.b), steps_.panel_columns) * stride_ : 0),
          moments_(std::max(cut_.panels, cells_of(p.a))),
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
        moment_ = 0;
        const bool dense = a_.has_log_sum_exp() || b_.has_log_sum_exp();
        const int64_t count_a = a_.set().count, count_b = b_.set().count;
        const int64_t rows = dense ? cut_.rows : std::max<int64_t>(1, count_a);
        for (int64_t first = 0; first < count_a; first += rows) {
            const int64_t here = std::min(rows, count_a - first);
            if (dense && count_b > 0) add_block(first, here, softmax);
            finish(a_, b_, first, here, dense && count_b > 0 && sums_a() ? a_sums_.get() : nullptr, softmax, b, true);
        }
        finish(b_, a_, 0, count_b, dense && count_a > 0 && sums_b() ? b_sums_.get() : nullptr, softmax, b, false);
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

    // Rows [first, first + rows) of `a` and all of `b`.
    void add_block(int64_t first, int64_t rows, const Softmax& softmax) {
        const VectorSet<T>& a = a_.set();
        const int64_t columns = steps_.panel_columns;
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1)
        for (int64_t r = 0; r < rows; r += steps_.panel_rows)
            steps_.pack_rows(a, first + r, panels_.get() + r * a.channels());
        if (packs_a()) {
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1)
            for (int64_t r = 0; r < rows; r += columns)
                steps_.pack_lines(a, first + r, a_lines_.get() + r * stride_, stride_, scratch_.mine());
        }
        const int64_t panels = (b_.set().count + columns - 1) / columns;
        for (int64_t panel = 0; panel < panels; panel += cut_.panels)
            add_chunk(first, rows, panel, std::min(cut_.panels, panels - panel), softmax);
    }

    void add_chunk(int64_t first, int64_t rows, int64_t first_panel, int64_t panels, const Softmax& softmax) {
        const VectorSet<T>&a = a_.set(), &b = b_.set();
        const int64_t columns = steps_.panel_columns, first_column = first_panel * columns;
        const int64_t count = std::min(panels * columns, b.count - first_column), of_panel = cut_.rows * columns;
        const bool want_moment = is_given(wanted_.temperature);
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1)
        for (int64_t i = 0; i < panels; ++i) {
            moments_[i] = 0;
            T* const lines = packs_b() ? b_lines_.get() + i * columns * stride_ : nullptr;
            double* const moment = want_moment ? moments_.get() + i : nullptr;
            steps_.score_gradients({a, b, softmax.summation, first, rows, panels_.get(), first_panel + i, a_.weights(),
                                    b_.weights(), gradients_.get() + i * of_panel, lines, stride_, moment, scratch_.mine()});
        }
        for (int64_t i = 0; i < panels; ++i) moment_ += moments_[i];
        if (signs_) return add_signs(first, rows, first_column, count);

        // A part of the channels of all lines of the chunk stays in the cache while the rows pass.
        const int64_t channels = a.channels() + (p_.metric.kind == SIMPLEMATCH_L2 ? 1 : 0);
        const int64_t parts = (channels + columns - 1) / columns, together = 8 * steps_.panel_rows;
        const int64_t groups = (rows + together - 1) / together;
        if (sums_a()) {
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1)
            for (int64_t task = 0; task < parts * groups; ++task) {
                const int64_t c = task / groups * columns, begin = task % groups * together;
                for (int64_t r = begin; r < std::min(rows, begin + together); r += steps_.panel_rows)
                    steps_.sum_for_rows({gradients_.get() + r * columns, cut_.rows, rows - r, count, b_lines_.get() + c,
                                         a_sums_.get() + r * stride_ + c, stride_, std::min(columns, channels - c),
                                         first_panel > 0});
            }
        }
        if (sums_b()) {
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1)
            for (int64_t i = 0; i < panels; ++i)
                steps_.sum_for_columns({gradients_.get() + i * of_panel, cut_.rows, rows, columns, a_lines_.get(),
                                        b_sums_.get() + (first_column + i * columns) * stride_, stride_, channels, first > 0});
        }
    }

    // The sums of both sides for a block and a chunk of the metric l1: each thread has some of the channels.
    void add_signs(int64_t first, int64_t rows, int64_t first_column, int64_t count) {
        if (!is_given(wanted_.a) && !is_given(wanted_.b)) return;  // of the numbers alone
        const int64_t channels = a_.set().channels(), wide = 4 * steps_.lanes;
        const int64_t width = channels >= threads_ * wide ? wide : steps_.lanes;
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1)
        for (int64_t c = 0; c < channels; c += width)
            steps_.sum_signs({gradients_.get(), cut_.rows, rows, count, a_lines_.get(), b_lines_.get(),
                              is_given(wanted_.a) ? a_sums_.get() : nullptr,
                              is_given(wanted_.b) ? b_sums_.get() + first_column * stride_ : nullptr, first_column > 0,
                              first > 0, stride_, c, std::min(channels, c + width)});
    }

    // Gradients of vectors [first, first + count) of one side, whose sums begin at `sums`; null: there are none.
    void finish(GradientSide<T>& side, GradientSide<T>& other, int64_t first, int64_t count, const T* sums,
                const Softmax& softmax, int64_t b, bool with_moment) {
        const bool wanted = is_given(side.gradient);
        with_moment = with_moment && is_given(wanted_.temperature) && side.any_separate(other);
        if (!wanted && !with_moment) return;
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads_) if (threads_ > 1)
        for (int64_t i = 0; i < count; ++i) {
            T* const line = scratch_.mine();
            T* const own = line + stride_;
            if (sums != nullptr) {
                std::copy_n(sums + i * stride_, stride_, line);
            } else {
                std::fill_n(line, stride_, T(0));
            }
            const double separate = side.add_separate(other, first + i, softmax, line);
            if (with_moment) moments_[i] = separate;
            if (!wanted) continue;
            side.add_bests(other, first + i, line);
            side.finish(other, b, first + i, line, own);
        }
        double moment = 0;
        for (int64_t i = 0; with_moment && i < count; ++i) moment += moments_[i];
        moment_ += moment;
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
    const Buffer<T> panels_, a_lines_, b_lines_, gradients_, a_sums_, b_sums_;
    const Buffer<double> moments_;  // of the panels of a chunk, or of vectors of `a`
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

// sparse_window_match backward: localize_backward, then both gradients of the similarity, then the source's.
//
// Queries without kept window scores have their scores computed again, in blocks within the budget. Images are worked
// on together as far as their queries fit, else one by one; an image's target gradient is summed over its blocks in the
// type of the arithmetic and rounded once.
#include "driver.h"
#include "localization.h"
#include "source_backward.h"
#include "sparse_match_cross_entropy.h"

namespace simplematch::cpu {
namespace {

template <class T>
class Backward {
public:
    Backward(const MatchProblem& p, const MatchResult& forward, const Upstream& upstream, const MatchGradients& wanted,
             const CrossEntropy* truth, int threads)
        : p_(p),
          forward_(forward),
          upstream_(upstream),
          wanted_(wanted),
          truth_(truth),
          steps_(kernels<T>()),
          batch_(p.target.size[0]),
          channels_(p.target.size[1]),
          height_(p.target.size[2]),
          width_(p.target.size[3]),
          cells_(height_ * width_),
          count_(queries_of(p)),
          columns_(box_columns(p.localization.window, width_)),
          box_size_(box_rows(p.localization.window, height_) * columns_),
          sampled_(is_given(p.keypoints)),
          want_query_(is_given(wanted.source) || is_given(wanted.keypoints)),
          want_features_(want_query_ || is_given(wanted.target)),
          threads_(threads_for(threads, double(batch_) * double(cells_) * double(channels_) * double(count_ + 4))) {}

    void run() {
        const bool recompute = p_.kept_queries < count_;
        const int64_t stride = round_up(channels_, kTile);
        const int64_t vectors = want_query_ && !sampled_ ? 2 : 1;
        const int64_t per_query = (recompute ? cells_ : 0) + box_size_ + tiles_of(cells_) * kTile + vectors * stride;
        const auto block_within = [&](int64_t bytes) {
            const int64_t most = has_windows() ? bytes : std::min(bytes, kGradientsInCache);
            return block_size(batch_, count_, per_query * int64_t(sizeof(T)), most);
        };
        BlockSize most = block_within(p_.score_budget);
        if (most.queries < count_ && is_given(wanted_.target)) {  // the sums of the target's gradient share the budget
            const int64_t sums = tiles_of(cells_) * kTile * stride * int64_t(sizeof(T));
            most = block_within(std::max(p_.score_budget / 2, p_.score_budget - sums));
        }
        const bool split = p_.kept_queries > 0 && recompute;  // a block has all of its window scores, or none
        if (split) most.images = 1;

        prepare_output(wanted_.source);
        prepare_output(wanted_.target);
        Work work(*this, most, recompute, split || most.queries < count_);
        for (int64_t b = 0; b < batch_; b += most.images) {
            const int64_t images = std::min(most.images, batch_ - b);
            int64_t next;
            for (int64_t n0 = 0; n0 == 0 || n0 < count_; n0 = next) {
                const bool kept = n0 < p_.kept_queries;
                next = std::min(n0 + most.queries, kept ? std::min(count_, p_.kept_queries) : count_);
                run_block(work, {b, images, n0, next - n0, kept});
                if (next == n0) break;
            }
            if (want_query_ && sampled_) scatter_queries(work.table, work.query_gradient.get(), stride, b, images);
        }
    }

private:
    // The memory of all blocks.
    struct Work {
        RowTable table;
        QueryBlock<T> block;
        Buffer<T> scores, window_gradient, query_gradient;  // the last of all queries that share cells of a source
        BlockGradients<T> gradients;
        Buffer<int32_t> active, active_count;  // the queries whose windows meet a tile
        ThreadScratch<T> scratch;

        Work(const Backward& a, BlockSize most, bool recompute, bool several)
            : table(list_rows(a.p_.rows, a.batch_, a.count_, a.height_, a.width_,
                              outside_of(a.p_.localization, is_given(a.upstream_.covariance)))),
              block(most, a.channels_),
              scores(recompute ? most.images * most.queries * a.cells_ : 0),
              window_gradient(most.images * most.queries * a.box_size_),
              query_gradient(a.want_query_ ? most.images * (a.sampled_ ? a.count_ : most.queries) * block.stride() : 0),
              gradients(most, a.height_, a.width_, a.channels_, several, is_given(a.wanted_.target)),
              active(recompute && a.has_windows() ? most.images * tiles_of(a.cells_) * most.queries : 0),
              active_count(recompute && a.has_windows() ? most.images * tiles_of(a.cells_) : 0),
              scratch(a.threads_, std::max({similarity_scratch(most.queries, a.channels_), row_scratch(a.height_, a.width_),
                                            gradient_scratch(std::min(a.channels_, kMostChannels))})) {}
    };

    // Queries [first, first + count) of images [b, b + images); `kept`: the forward kept the scores of their windows.
    struct Block {
        int64_t b, images, first, count;
        bool kept;
    };

    // Where the scores of a block's windows lie, and where their gradients go.
    struct Windows {
        WindowScores<T> scores, gradients;
    };

    void run_block(Work& work, const Block& at) {
        const View target = images_from(p_.target, at.b);
        T* const target_norm = static_cast<T*>(forward_.target_norm) + at.b * cells_;
        const int64_t image_stride = p_.kept_queries * box_size_, stride = work.block.stride();
        const T* const kept = static_cast<const T*>(forward_.window_scores);
        const Windows windows{
            at.kept ? WindowScores<T>{kept + at.b * image_stride + at.first * box_size_, image_stride, box_size_, columns_, false}
                    : WindowScores<T>{work.scores.get(), at.count * cells_, cells_, width_, true},
            {work.window_gradient.get(), at.count * box_size_, box_size_, columns_, false}};
        const bool need_queries = want_features_ || !at.kept;
        const bool only_windows = !at.kept && at.count > 0 && has_windows();  // lists have room for the tiles of queries
        work.block.choose(work.table, count_, at.b, at.images, at.first, at.count, [&](int64_t image, int64_t n) {
            return sample_query(p_.source, p_.keypoints, p_.sampling, image, n);
        });
#pragma omp parallel num_threads(threads_) if (threads_ > 1)
        {
            T* const mine = work.scratch.mine();
            if (need_queries) work.block.load(images_from(p_.source, at.b), steps_);
            if (only_windows) list_windows(work, at);
            if (!at.kept)
                similarity_of_block(target, work.block.view(), at.images, p_.metric, work.scores.get(), target_norm, true,
                                    steps_, mine, only_windows ? work.active.get() : nullptr,
                                    only_windows ? work.active_count.get() : nullptr);
#pragma omp for schedule(dynamic, 4)
            for (int64_t task = 0; task < at.images * at.count; ++task) row_backward(work, at, windows, task, mine);
            if (want_features_) {
                work.block.to_units(p_.metric, steps_);
                const BlockTerms<T> terms{
                    target, images_from(wanted_.target, at.b), work.block.view(), at.images, windows.gradients, windows.scores, target_norm,
                    want_query_ ? work.query_gradient.get() + (sampled_ ? at.first * stride : 0) : nullptr,
                    (sampled_ ? count_ : at.count) * stride, at.first == 0, at.first + at.count == count_};
                work.gradients.run(terms, p_.metric, steps_, threads_, mine);
                if (want_query_ && !sampled_) write_block(work, at);
            }
        }
    }

    // Whether the softmax takes part of the map only.
    bool has_windows() const { return box_size_ < cells_; }

    // Called by all threads of a team: the queries that need the scores of each tile. Boxes follow from the peaks.
    void list_windows(Work& work, const Block& at) {
        const Queries<T> queries = work.block.view();
        const int64_t tiles = tiles_of(cells_);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < at.images * at.count; ++task) {
            const int64_t i = task / at.count, n = at.first + task % at.count;
            if (work.block.valid(i, task % at.count))
                work.gradients.box(task) =
                    window_box(p_.localization.window, forward_.matches.peak[(at.b + i) * count_ + n], height_, width_);
        }
#pragma omp for schedule(static)
        for (int64_t task = 0; task < at.images * tiles; ++task) {
            const int64_t i = task / tiles, first = task % tiles * kTile, last = std::min(first + kTile, cells_);
            int32_t* const active = work.active.get() + task * at.count;
            int32_t count = 0;
            for (int64_t r = 0; r < queries.row_count[i]; ++r) {
                const int32_t n = queries.rows[i * at.count + r];
                if (meets_cells(work.gradients.box(i * at.count + n), first, last, width_)) active[count++] = n;
            }
            work.active_count[task] = count;
        }
    }

    // Called by all threads of a team: the gradient of the block's descriptors, each of which is one query.
    void write_block(const Work& work, const Block& at) {
        const int64_t stride = work.block.stride(), chunks = (channels_ + kTile - 1) / kTile;
#pragma omp for schedule(static)
        for (int64_t task = 0; task < at.images * chunks; ++task) {
            const int64_t i = task / chunks, first = task % chunks * kTile;
            write_queries(wanted_.source, at.b + i, at.first, at.count, work.query_gradient.get() + i * at.count * stride,
                          stride, first, std::min(first + kTile, channels_));
        }
    }

    void row_backward(Work& work, const Block& at, const Windows& windows, int64_t task, T* scratch) {
        const int64_t i = task / at.count, local = task % at.count, b = at.b + i, n = at.first + local;
        if (!work.block.valid(i, local)) {
            write_row_gradient(wanted_.temperature, b, n, 0);
            return;
        }
        RowGradient<T> gradient = upstream_of_row<T>(
            upstream_, forward_.matches, count_, maps_from_cells(p_.localization, b, height_, width_), b, n);
        gradient.peak = forward_.matches.peak[b * count_ + n];
        const Box box = window_box(p_.localization.window, gradient.peak, height_, width_);
        gradient.scores = const_cast<T*>(first_of_box(windows.gradients, i, local, box));
        gradient.stride = columns_;
        const RowWork<T> row{height_, width_, p_.localization.window, first_of_box(windows.scores, i, local, box),
                             windows.scores.row_stride, work.table.mask(b, n), work.table.totals_of(b, n),
                             T(temperature_of(p_.temperature, p_.localization, b, n)), scratch, {},
                             work.table.squares_of(b, n)};
        steps_.localize_backward(row, gradient);
        if (truth_ != nullptr) truth_->subtract(row, gradient, b, n);
        write_row_gradient(wanted_.temperature, b, n, gradient.temperature);
        work.gradients.box(task) = box;
        if (want_features_)
            work.gradients.set_query_own(
                task, work.block.view().norm[task], gradient.sum, gradient.sum_with_score, p_.metric);
    }

    void scatter_queries(const RowTable& table, const T* query_gradient, int64_t stride, int64_t b, int64_t images) {
        const View source = images_from(p_.source, b), gradient = images_from(wanted_.source, b);
        std::vector<std::vector<Scatter>> lists(static_cast<size_t>(images));
        if (gradient.data != nullptr)
            for (auto& list : lists) list = reserve_scatter(count_, p_.sampling);
        const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(16, source.size[1]));
        Buffer<Sample> samples(images * count_);
#pragma omp parallel num_threads(threads_) if (threads_ > 1)
        {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < images; ++i) {
                const uint8_t* const valid = table.valid.get() + (b + i) * count_;
                for (int64_t n = 0; n < count_; ++n)
                    if (valid[n])
                        samples[i * count_ + n] = sample_query(p_.source, p_.keypoints, p_.sampling, b + i, n);
                if (gradient.data != nullptr) list_scatter(samples.get() + i * count_, valid, count_, lists[size_t(i)]);
            }
            if (wanted_.keypoints.data != nullptr) {
#pragma omp for schedule(static)
                for (int64_t task = 0; task < images * count_; ++task) {
                    const int64_t i = task / count_, n = task % count_;
                    double x = 0, y = 0;
                    if (table.valid[(b + i) * count_ + n])
                        keypoint_gradient(source, i, samples[task], query_gradient + task * stride, &x, &y);
                    const View& out = wanted_.keypoints;
                    const int64_t at = (b + i) * out.stride[0] + n * out.stride[1];
                    write_element(out, at, x);
                    write_element(out, at + out.stride[2], y);
                }
            }
            if (gradient.data != nullptr) {
                // Static: two threads that first touch the same huge page at one time would both have it cleared.
#pragma omp for schedule(static)
                for (int64_t task = 0; task < images * parts; ++task)
                    source_backward(gradient, task / parts, lists[size_t(task / parts)],
                                    query_gradient + task / parts * count_ * stride, stride, task % parts, parts);
            }
        }
    }

    const MatchProblem& p_;
    const MatchResult& forward_;
    const Upstream& upstream_;
    const MatchGradients& wanted_;
    const CrossEntropy* const truth_;  // or null: a match alone
    const Kernels<T>& steps_;
    const int64_t batch_, channels_, height_, width_, cells_, count_, columns_, box_size_;
    const bool sampled_, want_query_, want_features_;
    const int threads_;
};

}  // namespace

template <class T>
void match_backward(const MatchProblem& p, const MatchResult& forward, const Upstream& upstream,
                    const MatchGradients& wanted, const CrossEntropy* truth, int threads) {
    Backward<T>(p, forward, upstream, wanted, truth, threads).run();
}

template void match_backward<float>(const MatchProblem&, const MatchResult&, const Upstream&, const MatchGradients&,
                                    const CrossEntropy*, int);
template void match_backward<double>(const MatchProblem&, const MatchResult&, const Upstream&, const MatchGradients&,
                                     const CrossEntropy*, int);

void run_backward(const MatchProblem& problem, const MatchResult& forward, const Upstream& upstream,
                  const MatchGradients& gradients, int threads) {
    if (problem.target.dtype == SIMPLEMATCH_FLOAT64)
        return match_backward<double>(problem, forward, upstream, gradients, nullptr, threads);
    match_backward<float>(problem, forward, upstream, gradients, nullptr, threads);
}

}  // namespace simplematch::cpu

// sparse_window_match backward: localize_backward, then both gradients of the similarity, then the source's.
//
// Queries without kept window scores have their scores computed again, in blocks within the budget. Images are worked
// on together as far as their queries fit, else one by one; an image's target gradient is summed over its blocks in the
// type of the arithmetic and rounded once.
#include "driver.h"
#include "localization.h"

namespace simplematch {
namespace cpu {
namespace {

template <class T>
class Backward {
public:
    Backward(const MatchProblem& p, const ForwardResult& forward, const Upstream& upstream, const MatchGradients& wanted)
        : p_(p), forward_(forward), upstream_(upstream), wanted_(wanted), steps_(kernels<T>()) {
        batch_ = p.target.size[0];
        channels_ = p.target.size[1];
        height_ = p.target.size[2];
        width_ = p.target.size[3];
        cells_ = height_ * width_;
        sampled_ = p.keypoints.data != nullptr;
        count_ = sampled_ ? p.keypoints.size[1] : p.source.size[3];
        columns_ = std::min(p.localization.window.width, width_);
        box_size_ = std::min(p.localization.window.height, height_) * columns_;
        want_query_ = wanted.source.data != nullptr || wanted.keypoints.data != nullptr;
        want_features_ = want_query_ || wanted.target.data != nullptr;
        threads_ = threads_for(p.threads, double(batch_) * double(cells_) * double(channels_) * double(count_ + 4));
    }

    void run() {
        const bool recompute = p_.kept_queries < count_;
        const int64_t stride = round_up(channels_, kTile);
        const int64_t per_query = (recompute ? cells_ : 0) + box_size_ + tiles_of(cells_) * kTile + stride;
        BlockSize most = block_size(batch_, count_, per_query * int64_t(sizeof(T)), p_.score_budget);
        const bool split = p_.kept_queries > 0 && recompute;  // a block has all of its window scores, or none
        if (split) most.images = 1;
        const bool several = split || most.queries < count_;

        const RowTable table = list_rows(p_.rows, batch_, count_, height_, width_);
        prepare_output(wanted_.source);
        prepare_output(wanted_.target);
        QueryBlock<T> block(most, channels_);
        Buffer<T> scores(recompute ? most.images * most.queries * cells_ : 0);
        Buffer<T> window_gradient(most.images * most.queries * box_size_);
        Buffer<T> query_gradient(want_query_ ? most.images * count_ * stride : 0);
        BlockGradients<T> gradients(most, height_, width_, channels_, several, wanted_.target.data != nullptr);
        const ThreadScratch<T> scratch(
            threads_, std::max({similarity_scratch(most.queries), row_scratch(height_, width_),
                                gradient_scratch(std::min(channels_, kMostChannels))}));

        for (int64_t b = 0; b < batch_; b += most.images) {
            const int64_t images = std::min(most.images, batch_ - b);
            int64_t next;
            for (int64_t n0 = 0; n0 == 0 || n0 < count_; n0 = next) {
                const bool kept = n0 < p_.kept_queries;
                next = std::min(n0 + most.queries, kept ? std::min(count_, p_.kept_queries) : count_);
                block.choose(table, count_, b, images, n0, next - n0,
                             [&](int64_t image, int64_t n) { return locate_query(p_, sampled_, image, n); });
                run_block(block, table, scores.get(), window_gradient.get(), query_gradient.get(), gradients, scratch, b,
                          images, n0, next - n0, kept);
                if (next == n0) break;
            }
            if (want_query_) scatter_queries(table, query_gradient.get(), stride, b, images);
        }
    }

private:
    void run_block(QueryBlock<T>& block, const RowTable& table, T* scores, T* window_gradient, T* query_gradient,
                   BlockGradients<T>& gradients, const ThreadScratch<T>& scratch, int64_t b, int64_t images, int64_t n0,
                   int64_t queries, bool kept) {
        const View target = images_from(p_.target, b);
        T* const target_norm = static_cast<T*>(forward_.target_norm) + b * cells_;
        const int64_t image_stride = p_.kept_queries * box_size_;
        const WindowScores<T> sources =
            kept ? WindowScores<T>{static_cast<const T*>(forward_.window_scores) + b * image_stride + n0 * box_size_,
                                   image_stride, box_size_, columns_, false}
                 : WindowScores<T>{scores, queries * cells_, cells_, width_, true};
        const WindowScores<T> results{window_gradient, queries * box_size_, box_size_, columns_, false};
        const bool need_queries = want_features_ || !kept;
#pragma omp parallel num_threads(threads_) if (threads_ > 1)
        {
            T* const mine = scratch.mine();
            if (need_queries) block.load(images_from(p_.source, b), steps_);
            if (!kept)
                similarity_of_block(target, block.view(), images, p_.metric, scores, target_norm, true, steps_, mine);
#pragma omp for schedule(dynamic, 4)
            for (int64_t task = 0; task < images * queries; ++task)
                row_backward(block, table, gradients, sources, results, task, b + task / queries, n0 + task % queries,
                             queries, mine);
            if (want_features_) block.to_units(p_.metric, steps_);
            if (want_features_)
                gradients.run(target, images_from(wanted_.target, b), table.mask ? table.mask + b * cells_ : nullptr,
                              block.view(), images, p_.metric, results, sources, target_norm,
                              want_query_ ? query_gradient + n0 * block.stride() : nullptr, count_ * block.stride(),
                              n0 == 0, n0 + queries == count_, steps_, threads_, mine);
        }
    }

    void row_backward(const QueryBlock<T>& block, const RowTable& table, BlockGradients<T>& gradients,
                      const WindowScores<T>& sources, const WindowScores<T>& results, int64_t task, int64_t b, int64_t n,
                      int64_t queries, T* scratch) {
        const int64_t i = task / queries, local = task % queries;
        if (!block.valid(i, local)) {
            write_row_gradient(wanted_.temperature, b, n, 0);
            return;
        }
        RowGradient<T> gradient = upstream_of_row<T>(upstream_, p_.localization, b, n);
        gradient.peak = forward_.matches.peak[b * count_ + n];
        const Box box = window_box(p_.localization.window, gradient.peak, height_, width_);
        gradient.scores = const_cast<T*>(first_of_box(results, i, local, box));
        gradient.stride = columns_;
        const RowWork<T> work{height_, width_, p_.localization.window, first_of_box(sources, i, local, box),
                              sources.row_stride, table.mask == nullptr ? nullptr : table.mask + b * cells_,
                              table.totals[b], T(temperature_of(p_.temperature, p_.localization, b, n)), scratch};
        steps_.localize_backward(work, gradient);
        write_row_gradient(wanted_.temperature, b, n, gradient.temperature);
        gradients.box(task) = box;
        if (want_features_)
            gradients.set_query_factor(task, block.view().norm[task], gradient.sum, gradient.sum_with_score, p_.metric);
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
                    if (valid[n]) samples[i * count_ + n] = locate_query(p_, sampled_, b + i, n);
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
    const ForwardResult& forward_;
    const Upstream& upstream_;
    const MatchGradients& wanted_;
    const Kernels<T>& steps_;
    int64_t batch_, channels_, height_, width_, cells_, count_, columns_, box_size_;
    bool sampled_, want_query_, want_features_;
    int threads_;
};

}  // namespace
}  // namespace cpu

void sparse_window_match_backward(
    const MatchProblem& problem, const ForwardResult& forward, const Upstream& upstream, const MatchGradients& gradients) {
    if (problem.target.dtype == DType::float64) return cpu::Backward<double>(problem, forward, upstream, gradients).run();
    cpu::Backward<float>(problem, forward, upstream, gradients).run();
}

}  // namespace simplematch

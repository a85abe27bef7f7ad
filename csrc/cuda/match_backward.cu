// sparse_window_match backward: localize_backward, then both gradients of the similarity, then the source's.
//
// All queries at once if the forward kept the scores of every window. Otherwise image by image, with the scores of what
// it did not keep made again in blocks within the budget; an image's target gradient is summed over its blocks in the
// type of the arithmetic and rounded once.
#include "driver.h"

namespace simplematch::cuda {
namespace {

class Backward {
public:
    // `truth`, with points: the gradient that arrives at the log-sum-exp is that of a cross entropy of these losses.
    Backward(const MatchProblem& p, const MatchGradients& wanted, int processors, Workspace& workspace,
             const TruePoints& truth = {kNotGiven, {}}, const void* losses = nullptr)
        : p_(p), wanted_(wanted), truth_(truth), losses_(losses) {
        batch_ = p.target.size[0];
        channels_ = p.target.size[1];
        height_ = p.target.size[2];
        width_ = p.target.size[3];
        cells_ = height_ * width_;
        count_ = queries_of(p);
        sampled_ = is_given(p.keypoints);
        dtype_ = arithmetic_of(p.target.dtype);
        item_ = item_size(dtype_);
        rows_ = box_rows(p.localization.window, height_);
        columns_ = box_columns(p.localization.window, width_);
        const bool bilinear = p.sampling.mode == SIMPLEMATCH_BILINEAR;
        want_queries_ = wanted.source.data != nullptr || (wanted.keypoints.data != nullptr && bilinear);
        want_features_ = want_queries_ || wanted.target.data != nullptr;

        all_kept_ = p.kept_queries >= count_;
        const int64_t per_query = (cells_ + 2 * rows_ * columns_) * item_;
        const bool fits = p.kept_queries == 0 && batch_ * count_ * per_query <= p.score_budget;
        images_ = all_kept_ || fits ? batch_ : 1;
        most_ = all_kept_ ? count_ : std::max<int64_t>(1, std::min(count_, p.score_budget / per_query));
        several_ = most_ < count_ || (!all_kept_ && p.kept_queries > 0);

        const Stream here{nullptr, processors};
        const bool splits = want_queries_ && sampled_ && p.metric.kind != SIMPLEMATCH_L1;
        terms_.splits = splits ? query_backward_splits(p.target, count_, here) : 1;
        terms_.split_stride = batch_ * count_ * channels_;
        if (want_features_) {
            ds_ = workspace.take(images_ * most_ * rows_ * columns_ * item_);
            terms_.vectors = workspace.take(terms_.splits * terms_.split_stride * item_);
            terms_.divisor = workspace.take(batch_ * count_ * item_);
            terms_.own = workspace.take(batch_ * count_ * item_);
        }
        if (!all_kept_) scores_ = workspace.take(images_ * most_ * cells_ * item_);
        if (several_ && wanted.target.data != nullptr && wanted.target.dtype != dtype_)
            partial_ = workspace.take(cells_ * channels_ * item_);
        scratch_ = SimilarityScratch(workspace, p.target, images_, all_kept_ ? 0 : most_, bilinear, false);
    }

    void run(const MatchResult& forward, const Upstream& upstream, Stream stream) const {
        for (int64_t b = 0; b < batch_; b += images_) {
            int64_t next = 0;
            do {  // once, too, where there are no queries
                const int64_t first = next;
                const int64_t end = first < p_.kept_queries ? std::min(count_, p_.kept_queries) : count_;
                next = std::min(first + most_, end);
                run_block(forward, upstream, b, {images_, first, next - first, count_}, stream);
            } while (next < count_);
        }
        if (!sampled_) return;
        const View rows{terms_.vectors, dtype_, {terms_.splits, batch_, count_, channels_},
                        {terms_.split_stride, count_ * channels_, channels_, 1}};
        source_backward({rows, forward.matches.peak, p_.source, p_.keypoints, p_.sampling, wanted_.source, wanted_.keypoints},
                        stream);
    }

private:
    void run_block(const MatchResult& forward, const Upstream& upstream, int64_t b, const Block& block, Stream stream) const {
        const View target = from(p_.target, 0, b);
        const Rows rows = from(p_.rows, b, count_, cells_);
        const bool kept = block.first < p_.kept_queries;
        void* const norm = bytes_from(forward.target_norm, b * cells_ * item_);
        if (!kept && block.count > 0)
            scratch_.run({from(p_.source, 0, b), from(p_.keypoints, 0, b), from(p_.sampling, b)}, rows, target, p_.metric, block,
                         scores_, nullptr, stream);

        LocalizeBackward step{};
        const int64_t box = rows_ * columns_;
        step.scores = {scores_, cells_ * block.count, cells_, width_, 1, true};
        if (kept)
            step.scores = {bytes_from(forward.window_scores, (b * p_.kept_queries + block.first) * box * item_),
                           p_.kept_queries * box, box, columns_, 1, false};
        step.ds = {ds_, block.count * box, box, columns_, 1, false};
        step.dtype = dtype_;
        step.height = height_, step.width = width_;
        step.peak = from(forward.matches.peak, b * count_);
        step.masks = masks_of(rows, count_, cells_);
        step.temperature = from(p_.temperature, 0, b);
        step.localization = from(p_.localization, b);
        step.upstream = {from(upstream.keypoints, 0, b), from(upstream.score, 0, b), from(upstream.log_sum_exp, 0, b),
                         from(upstream.covariance, 0, b)};
        step.covariance = bytes_from(forward.matches.covariance, 4 * b * count_ * item_);
        step.temperature_gradient = from(wanted_.temperature, 0, b);
        step.source = from(p_.source, 0, b), step.keypoints = from(p_.keypoints, 0, b);
        step.sampling = from(p_.sampling, b);
        step.metric = p_.metric;
        step.terms = terms_of_image(b);
        step.truth = {from(truth_.points, 0, b), truth_.truth};
        step.losses = losses_ == nullptr ? nullptr : static_cast<const char*>(losses_) + b * count_ * item_;
        localize_backward(step, block, stream);
        if (!want_features_) return;

        const ScoreGradient gradient{
            {step.ds.data, step.ds.image, step.ds.query, step.ds.row, step.ds.column, step.ds.whole_map},
            step.scores, step.peak, p_.localization.window};
        if (wanted_.target.data != nullptr) {
            const bool first = block.first == 0, last = block.first + block.count == count_;
            const View out = from(wanted_.target, 0, b), sum = partial_ == nullptr ? out : partial_like(out);
            target_backward(gradient, step.terms, norm, target, p_.metric, block, first ? kNotGiven : sum, last ? out : sum,
                            stream);
        }
        if (want_queries_) {
            const View into = sampled_ ? kNotGiven : from(from(wanted_.source, 0, b), 3, block.first);
            query_backward(gradient, step.terms, norm, target, p_.metric, block, into, stream);
        }
    }

    QueryTerms terms_of_image(int64_t b) const {
        QueryTerms terms = terms_;
        terms.vectors = bytes_from(terms_.vectors, b * count_ * channels_ * item_);
        terms.divisor = bytes_from(terms_.divisor, b * count_ * item_);
        terms.own = bytes_from(terms_.own, b * count_ * item_);
        return terms;
    }

    // One image in the type of the arithmetic, its axes in the order of `out`.
    View partial_like(const View& out) const {
        View view{partial_, dtype_, {1, channels_, height_, width_}, {0, cells_, width_, 1}};
        if (walk_of(out).channels_last) view.stride[1] = 1, view.stride[2] = width_ * channels_, view.stride[3] = channels_;
        return view;
    }

    const MatchProblem& p_;
    const MatchGradients& wanted_;
    const TruePoints truth_;
    const void* const losses_;
    int64_t batch_, channels_, height_, width_, cells_, count_, item_, rows_, columns_, images_, most_;
    bool sampled_, want_queries_, want_features_, all_kept_, several_;
    int32_t dtype_;
    void *ds_ = nullptr, *scores_ = nullptr, *partial_ = nullptr;
    QueryTerms terms_{};
    SimilarityScratch scratch_;
};

}  // namespace

int64_t workspace_backward(const MatchProblem& problem, const MatchGradients& gradients, const Device& device) {
    Workspace workspace(nullptr);
    const Backward plan(problem, gradients, processors_of(device.index), workspace);
    return workspace.used();
}

void run_backward(const MatchProblem& problem, const MatchResult& forward, const Upstream& upstream,
                  const MatchGradients& gradients, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    Backward(problem, gradients, stream.processors, workspace).run(forward, upstream, stream);
}

int64_t workspace_backward(const CrossEntropyProblem& problem, const MatchGradients& gradients, const Device& device) {
    return workspace_backward(match_of(problem), gradients, device);
}

void run_backward(const CrossEntropyProblem& p, const CrossEntropyResult& forward, const CrossEntropyUpstream& upstream,
                  const MatchGradients& gradients, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const MatchProblem match = match_of(p);
    MatchResult of_match{};
    of_match.matches.peak = forward.cell;  // any cell of the map will do
    of_match.target_norm = forward.target_norm;
    const Upstream arriving{kNotGiven, kNotGiven, upstream.loss, kNotGiven};
    Backward(match, gradients, stream.processors, workspace, {p.target_keypoints, p.truth}, forward.loss)
        .run(of_match, arriving, stream);
}

}  // namespace simplematch::cuda

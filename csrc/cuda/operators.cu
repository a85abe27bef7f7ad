// The other operators: each is one or two of the steps.
#include "driver.h"

namespace simplematch::cuda {
namespace {

// The gradients of a similarity take its own gradient for ds.
struct SimilarityBackward {
    int64_t batch, count, channels;
    QueryTerms terms{};

    SimilarityBackward(const SimilarityProblem& p, Workspace& workspace)
        : batch(p.target.size[0]), count(p.descriptors.size[3]), channels(p.target.size[1]) {
        const int64_t item = item_size(arithmetic_of(p.target.dtype));
        terms.splits = 1;
        terms.split_stride = batch * count * channels;
        terms.vectors = workspace.take(terms.split_stride * item);
        terms.divisor = workspace.take(batch * count * item);
        terms.own = workspace.take(batch * count * item);
    }
};

}  // namespace

void run(const LocalizeProblem& p, const Matches& result, const Device& device) {
    const OnDevice guard(device.index);
    const Block block{p.scores.size[0], 0, p.scores.size[1], p.scores.size[1]};
    const TileBest none{nullptr, nullptr, 0};
    localize(p.scores, none, p.rows, p.temperature, p.localization, block, result, nullptr, 0, stream_of(device));
    details(p.scores, none, 0, p.rows, p.temperature, p.localization, block, result, stream_of(device));
}

void run_backward(const LocalizeProblem& p, const Matches& forward, const Upstream& upstream,
                  const LocalizeGradients& gradients, const Device& device) {
    const OnDevice guard(device.index);
    const int64_t* const in = p.scores.stride;
    const int64_t* const out = gradients.scores.stride;
    LocalizeBackward step{};
    step.scores = {p.scores.data, in[0], in[1], in[2], in[3], true};
    step.ds = {gradients.scores.data, out[0], out[1], out[2], out[3], true};
    step.dtype = p.scores.dtype;
    step.height = p.scores.size[2], step.width = p.scores.size[3];
    step.peak = forward.peak;
    step.masks = masks_of(p.rows, p.scores.size[1], step.height * step.width);
    step.temperature = p.temperature;
    step.localization = p.localization;
    step.upstream = upstream;
    step.covariance = forward.covariance;
    step.temperature_gradient = gradients.temperature;
    localize_backward(step, {p.scores.size[0], 0, p.scores.size[1], p.scores.size[1]}, stream_of(device));
}

void run(const GatherProblem& p, const GatherResult& result, const Device& device) {
    const OnDevice guard(device.index);
    gather_rows({p.features, p.keypoints, p.sampling}, result.descriptors, stream_of(device));
}

void run_backward(const GatherProblem& p, const GatherUpstream& upstream, const GatherGradients& gradients,
                  const Device& device) {
    const OnDevice guard(device.index);
    const View& in = upstream.descriptors;
    const View rows{in.data, in.dtype, {1, in.size[0], in.size[1], in.size[2]}, {0, in.stride[0], in.stride[1], in.stride[2]}};
    source_backward({rows, nullptr, p.features, p.keypoints, p.sampling, gradients.features, gradients.keypoints},
                    stream_of(device));
}

int64_t workspace(const SimilarityProblem& p, const Device&) {
    Workspace workspace(nullptr);
    const SimilarityScratch scratch(workspace, p.target, p.target.size[0], std::max<int64_t>(1, p.descriptors.size[3]), false,
                                    false);
    const int64_t unused_scores = p.target.size[0] * cells_of(p.target) * item_size(arithmetic_of(p.target.dtype));
    if (p.descriptors.size[3] == 0) workspace.take(unused_scores);
    return workspace.used();
}

void run(const SimilarityProblem& p, const SimilarityResult& result, const Device& device) {
    const OnDevice guard(device.index);
    Workspace workspace(device.workspace);
    const int64_t images = p.target.size[0], count = p.descriptors.size[3];
    const SimilarityScratch scratch(workspace, p.target, images, std::max<int64_t>(1, count), false, false);
    View descriptors = p.descriptors;
    void* scores = result.scores;
    if (count == 0) {  // the norms are still required
        descriptors = p.target;
        descriptors.size[2] = descriptors.size[3] = 1;
        scores = workspace.take(images * cells_of(p.target) * item_size(arithmetic_of(p.target.dtype)));
    }
    const Block block{images, 0, std::max<int64_t>(1, count), std::max<int64_t>(1, count)};
    scratch.run({descriptors, kNotGiven, {}}, kAllRows, p.target, p.metric, block, scores, result.target_norm,
                stream_of(device));
}

int64_t workspace_backward(const SimilarityProblem& p, const SimilarityGradients&, const Device&) {
    Workspace workspace(nullptr);
    const SimilarityBackward plan(p, workspace);
    return workspace.used();
}

void run_backward(const SimilarityProblem& p, const SimilarityResult& forward, const SimilarityUpstream& upstream,
                  const SimilarityGradients& gradients, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const SimilarityBackward plan(p, workspace);
    const int64_t height = p.target.size[2], width = p.target.size[3], cells = height * width;
    const Block block{plan.batch, 0, plan.count, plan.count};
    const int64_t* const in = upstream.scores.stride;
    LocalizeBackward step{};
    step.scores = {forward.scores, plan.count * cells, cells, width, 1, true};
    step.ds = {upstream.scores.data, in[0], in[1], in[2], in[3], true};
    step.dtype = arithmetic_of(p.target.dtype);
    step.given = true;
    step.height = height, step.width = width;
    step.source = p.descriptors;
    step.metric = p.metric;
    step.terms = plan.terms;
    localize_backward(step, block, stream);
    const ScoreGradient dense{{upstream.scores.data, in[0], in[1], in[2], in[3], true}, step.scores, nullptr, Window{}};
    if (is_given(gradients.target))
        target_backward(dense, plan.terms, forward.target_norm, p.target, p.metric, block, kNotGiven, gradients.target, stream);
    if (is_given(gradients.descriptors))
        query_backward(dense, plan.terms, forward.target_norm, p.target, p.metric, block, gradients.descriptors, stream);
}

}  // namespace simplematch::cuda

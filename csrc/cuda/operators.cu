// The other operators: each is one or two of the steps.
#include "driver.h"

namespace simplematch::cuda {
namespace {

Stream stream_of(const Device& device) { return {device.stream, processors_of(device.index)}; }

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

void localize(const LocalizeProblem& p, const Matches& matches, const Device& device) {
    const OnDevice guard(device.index);
    const Block block{p.scores.size[0], 0, p.scores.size[1], p.scores.size[1]};
    localize(p.scores, TileBest{nullptr, nullptr, 0}, p.rows, p.temperature, p.localization, block, matches, nullptr, 0,
             stream_of(device));
}

void localize_backward(const LocalizeProblem& p, const Matches& matches, const Upstream& upstream,
                       const View& scores_gradient, const View& temperature_gradient, const Device& device) {
    const OnDevice guard(device.index);
    const int64_t* const in = p.scores.stride;
    const int64_t* const out = scores_gradient.stride;
    LocalizeBackward step{};
    step.scores = {p.scores.data, in[0], in[1], in[2], in[3], true};
    step.ds = {scores_gradient.data, out[0], out[1], out[2], out[3], true};
    step.dtype = p.scores.dtype;
    step.height = p.scores.size[2], step.width = p.scores.size[3];
    step.peak = matches.peak;
    step.target_mask = p.rows.target_mask;
    step.temperature = p.temperature;
    step.localization = p.localization;
    step.upstream = upstream;
    step.temperature_gradient = temperature_gradient;
    localize_backward(step, {p.scores.size[0], 0, p.scores.size[1], p.scores.size[1]}, stream_of(device));
}

void gather_keypoints(const View& features, const View& keypoints, const Sampling& sampling, void* descriptors,
                      const Device& device) {
    const OnDevice guard(device.index);
    gather_rows(features, keypoints, sampling, descriptors, stream_of(device));
}

void gather_keypoints_backward(const View& gradient, const View& features, const View& keypoints, const Sampling& sampling,
                               const View& features_gradient, const View& keypoints_gradient, const Device& device) {
    const OnDevice guard(device.index);
    const View rows{gradient.data, gradient.dtype, {1, gradient.size[0], gradient.size[1], gradient.size[2]},
                    {0, gradient.stride[0], gradient.stride[1], gradient.stride[2]}};
    source_backward({rows, nullptr, features, keypoints, sampling, features_gradient, keypoints_gradient}, stream_of(device));
}

int64_t cosine_similarity_workspace(const SimilarityProblem& p, int) {
    Workspace workspace(nullptr);
    const SimilarityScratch scratch(workspace, p.target, p.target.size[0], std::max<int64_t>(1, p.descriptors.size[3]), false,
                                    false);
    const int64_t unused_scores = p.target.size[0] * cells_of(p.target) * item_size(arithmetic_of(p.target.dtype));
    if (p.descriptors.size[3] == 0) workspace.take(unused_scores);
    return workspace.used();
}

void cosine_similarity(const SimilarityProblem& p, void* scores, void* target_norm, const Device& device) {
    const OnDevice guard(device.index);
    Workspace workspace(device.workspace);
    const int64_t images = p.target.size[0], count = p.descriptors.size[3];
    const SimilarityScratch scratch(workspace, p.target, images, std::max<int64_t>(1, count), false, false);
    View descriptors = p.descriptors;
    if (count == 0) {  // the norms are wanted all the same
        descriptors = p.target;
        descriptors.size[2] = descriptors.size[3] = 1;
        scores = workspace.take(images * cells_of(p.target) * item_size(arithmetic_of(p.target.dtype)));
    }
    const Block block{images, 0, std::max<int64_t>(1, count), std::max<int64_t>(1, count)};
    scratch.run(descriptors, View{}, Rows{}, Sampling{}, p.target, p.metric, block, scores, target_norm, stream_of(device));
}

int64_t cosine_similarity_backward_workspace(const SimilarityProblem& p, int) {
    Workspace workspace(nullptr);
    const SimilarityBackward plan(p, workspace);
    return workspace.used();
}

void cosine_similarity_backward(const SimilarityProblem& p, const View& gradient, const void* scores,
                                const void* target_norm, const View& descriptors_gradient, const View& target_gradient,
                                const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const SimilarityBackward plan(p, workspace);
    const int64_t height = p.target.size[2], width = p.target.size[3], cells = height * width;
    const Block block{plan.batch, 0, plan.count, plan.count};
    const int64_t* const in = gradient.stride;
    LocalizeBackward step{};
    step.scores = {scores, plan.count * cells, cells, width, 1, true};
    step.ds = {gradient.data, in[0], in[1], in[2], in[3], true};
    step.dtype = arithmetic_of(p.target.dtype);
    step.given = true;
    step.height = height, step.width = width;
    step.source = p.descriptors;
    step.metric = p.metric;
    step.terms = plan.terms;
    localize_backward(step, block, stream);
    const ScoreGradient dense{{gradient.data, in[0], in[1], in[2], in[3], true}, step.scores, nullptr, Window{}};
    if (target_gradient.data != nullptr)
        target_backward(dense, plan.terms, target_norm, p.target, p.metric, block, View{}, target_gradient, stream);
    if (descriptors_gradient.data != nullptr)
        query_backward(dense, plan.terms, target_norm, p.target, p.metric, block, descriptors_gradient, stream);
}

}  // namespace simplematch::cuda

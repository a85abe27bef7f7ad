// sparse_window_match: gather, similarity, localize (paper eq. 6-12), by blocks of queries whose scores fit the budget.
#include "driver.h"

namespace simplematch::cuda {
namespace {

struct Plan {
    int64_t images, count, cells, most;  // most: queries of a block
    void* scores;
    SimilarityScratch scratch;

    Plan(const MatchProblem& p, Workspace& workspace)
        : images(p.target.size[0]),
          count(queries_of(p)),
          cells(cells_of(p.target)),
          most(queries_of_block(p)),
          scores(workspace.take(images * most * cells * item_size(arithmetic_of(p.target.dtype)))),
          scratch(workspace, p.target, images, most, p.sampling.mode == SIMPLEMATCH_BILINEAR, true) {}

    static int64_t queries_of_block(const MatchProblem& p) {
        const int64_t bytes = p.target.size[0] * cells_of(p.target) * item_size(arithmetic_of(p.target.dtype));
        return std::max<int64_t>(1, std::min(queries_of(p), p.score_budget / std::max<int64_t>(1, bytes)));
    }
};

// A dummy query: only the norms of the target are needed.
View one_query(const View& target) {
    View query = target;
    query.size[2] = query.size[3] = 1;
    return query;
}

}  // namespace

int64_t workspace(const MatchProblem& problem, const Device&) {
    Workspace workspace(nullptr);
    const Plan plan(problem, workspace);
    return workspace.used();
}

void run(const MatchProblem& p, const MatchResult& result, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const Plan plan(p, workspace);
    if (plan.count == 0) {
        const Block block{plan.images, 0, 1, 1};
        plan.scratch.run({one_query(p.target), kNotGiven, {}}, kAllRows, p.target, p.metric, block, plan.scores,
                         result.target_norm, stream);
        return;
    }
    for (int64_t first = 0; first < plan.count; first += plan.most) {
        const Block block{plan.images, first, std::min(plan.most, plan.count - first), plan.count};
        const TileBest best = plan.scratch.run({p.source, p.keypoints, p.sampling}, p.rows, p.target, p.metric, block,
                                               plan.scores, first == 0 ? result.target_norm : nullptr, stream);
        const View scores = contiguous(plan.scores, arithmetic_of(p.target.dtype), plan.images, block.count, p.target.size[2],
                                       p.target.size[3]);
        localize(scores, best, p.rows, p.temperature, p.localization, block, result.matches,
                 p.kept_queries > 0 ? result.window_scores : nullptr, p.kept_queries, stream);
        details(scores, best, similarity_tile(p.target, block, stream), p.rows, p.temperature, p.localization, block,
                result.matches, stream);
    }
}

}  // namespace simplematch::cuda

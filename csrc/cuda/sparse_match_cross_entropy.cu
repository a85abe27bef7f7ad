// sparse_match_cross_entropy: a match over the whole map, of which each row keeps one number, its loss.
//
//     loss = log sum_m exp((s[m] - largest) / T) + sum_m G[m] (largest - s[m]) / T
//
// Block = one query. Bytes: its row of scores twice, and k^2 of them again. A row whose largest s, T or true point is not
// finite answers NaN. The backward is that of the match, whose scores it makes again: see match_backward.cu.
#include "driver.h"
#include "truth.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128;

struct CrossEntropy {
    View scores;
    TruePoints points;
    Rows rows;
    View temperature;
    Localization whole_map;
    Block block;
    CrossEntropyResult result;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) cross_entropy_kernel(CrossEntropy a) {
    __shared__ Best memory[kThreads / kWarp];
    const int64_t b = blockIdx.x / a.block.count, local = blockIdx.x % a.block.count, n = a.block.first + local;
    const int32_t height = int32_t(a.scores.size[2]), width = int32_t(a.scores.size[3]);
    const T* const scores = static_cast<const T*>(a.scores.data) + b * a.scores.stride[0] + local * a.scores.stride[1];
    const uint8_t* const mask = masks_of(a.rows, a.block.total, int64_t(height) * width).of(b, n);
    const int64_t out = b * a.block.total + n;
    const Gaussian g = gaussian_of<kThreads>(a.points, b, n, mask, height, width, memory);
    if (!is_valid(a.rows, b, n, a.block.total) || !(g.total > 0)) {
        if (threadIdx.x > 0) return;
        static_cast<T*>(a.result.loss)[out] = T(0);
        a.result.cell[out] = -1;
        return;
    }
    const Row<T> row{scores, a.scores.stride[2], a.scores.stride[3], mask, height, width, -1, -1, {0, 0, height, width},
                     a.whole_map.window, temperature_of<T>(a.temperature, a.whole_map, b, n)};
    const SoftArgmax<T> s = soft_argmax<kThreads>(row, memory);
    double below = 0;
    g.for_each_cell<kThreads>([&](int32_t y, int32_t x) {
        const double weight = g.weight(y, x);
        if (weight > 0) below += weight * (double(s.largest) - double(row.score(y, x)));
    });
    below = sum_of_block<kThreads>(below, memory);
    if (threadIdx.x > 0) return;
    const bool lost = s.lost || !g.window.known;
    static_cast<T*>(a.result.loss)[out] = lost ? not_a_number<T>() : T(log(double(s.total)) + below / double(row.temperature));
    a.result.cell[out] = g.window.cell;
}

struct Plan {
    int64_t images, count, most;  // most: queries of a block
    void* scores;
    SimilarityScratch scratch;

    Plan(const CrossEntropyProblem& p, Workspace& workspace) : images(p.target.size[0]), count(queries_of(p)) {
        const int64_t bytes = images * cells_of(p.target) * item_size(arithmetic_of(p.target.dtype));
        most = std::max<int64_t>(1, std::min(count, p.score_budget / std::max<int64_t>(1, bytes)));
        scores = workspace.take(most * bytes);
        scratch = SimilarityScratch(workspace, p.target, images, most, p.sampling.mode == SIMPLEMATCH_BILINEAR, false);
    }
};

}  // namespace

void cross_entropy(const View& scores, const TruePoints& points, const Rows& rows, const View& temperature,
                   const Localization& whole_map, const Block& block, const CrossEntropyResult& result, Stream stream) {
    const CrossEntropy arguments{scores, points, rows, temperature, whole_map, block, result};
    const auto run = [&](auto kernel) {
        launch(kernel, block.images * block.count, kThreads, arguments, stream, "cross_entropy");
    };
    scores.dtype == SIMPLEMATCH_FLOAT64 ? run(cross_entropy_kernel<double>) : run(cross_entropy_kernel<float>);
}

int64_t workspace(const CrossEntropyProblem& problem, const Device&) {
    Workspace workspace(nullptr);
    const Plan plan(problem, workspace);
    return workspace.used();
}

void run(const CrossEntropyProblem& p, const CrossEntropyResult& result, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const Plan plan(p, workspace);
    if (plan.count == 0) {  // the norms are still required
        const Block block{plan.images, 0, 1, 1};
        View query = p.target;
        query.size[2] = query.size[3] = 1;
        plan.scratch.run({query, kNotGiven, {}}, kAllRows, p.target, p.metric, block, plan.scores, result.target_norm, stream);
        return;
    }
    for (int64_t first = 0; first < plan.count; first += plan.most) {
        const Block block{plan.images, first, std::min(plan.most, plan.count - first), plan.count};
        plan.scratch.run({p.source, p.keypoints, p.sampling}, p.rows, p.target, p.metric, block, plan.scores,
                         first == 0 ? result.target_norm : nullptr, stream);
        const View scores = contiguous(plan.scores, arithmetic_of(p.target.dtype), plan.images, block.count, p.target.size[2],
                                       p.target.size[3]);
        cross_entropy(scores, {p.target_keypoints, p.truth}, p.rows, p.temperature, match_of(p).localization, block, result,
                      stream);
    }
}

}  // namespace simplematch::cuda

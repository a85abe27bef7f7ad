// The operator from C++, without Python and without torch: a keypoint of a random map, found in a shifted copy.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "simplematch/cpu.h"

int main() {
    const int64_t C = 32, H = 40, W = 40, dx = 7, dy = 3;
    std::mt19937 random(0);
    std::normal_distribution<float> normal;
    std::vector<float> source(C * H * W), target(C * H * W);
    for (float& x : source) x = normal(random);
    for (int64_t c = 0; c < C; ++c)
        for (int64_t y = 0; y < H; ++y)
            for (int64_t x = 0; x < W; ++x)
                target[(c * H + (y + dy) % H) * W + (x + dx) % W] = source[(c * H + y) * W + x];
    std::vector<float> keypoints = {4, 5, 20, 11, 30, 30};  // three points (x, y), in cells
    const int64_t N = 3;

    using namespace simplematch;
    MatchProblem problem;
    problem.source = {source.data(), DType::float32, {1, C, H, W}, {C * H * W, H * W, W, 1}};
    problem.target = {target.data(), DType::float32, {1, C, H, W}, {C * H * W, H * W, W, 1}};
    problem.keypoints = {keypoints.data(), DType::float32, {1, N, 2, 1}, {2 * N, 2, 1, 1}};
    problem.localization.window.height = problem.localization.window.width = 9;
    problem.localization.window.outside_value = -INFINITY;  // only the window takes part
    problem.localization.temperature = 0.02;

    std::vector<float> found(2 * N), score(N), log_sum_exp(N), target_norm(H * W);
    std::vector<int64_t> peak(N);
    sparse_window_match(problem, {{found.data(), score.data(), peak.data(), log_sum_exp.data()}, target_norm.data()});

    bool right = true;
    std::printf("instructions: %s\n", simd_level());
    for (int64_t n = 0; n < N; ++n) {
        std::printf("(%g, %g) is at (%.3f, %.3f)\n", keypoints[2 * n], keypoints[2 * n + 1], found[2 * n], found[2 * n + 1]);
        right = right && std::fabs(found[2 * n] - keypoints[2 * n] - dx) < 1e-3;
        right = right && std::fabs(found[2 * n + 1] - keypoints[2 * n + 1] - dy) < 1e-3;
    }
    return right ? 0 : 1;
}

// Finds keypoints of one feature map in another:
//
//     match_maps source.npy target.npy keypoints.npy [window] [temperature] [height width]
//
// source (C, H, W), target (C, H', W') and keypoints (N, 2) as (x, y), float32, in C or Fortran order. With the height and
// width of the images in pixels, keypoints come and go in pixels (half_pixel convention), otherwise in cells. Prints
// a line "x y -> x y score" for each keypoint.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "npy.h"
#include "simplematch/simplematch.hpp"

namespace {

// (C, H, W) as a batch of one
simplematch_tensor map_of(const Array& a, const char* name) {
    if (a.shape.size() != 3) throw std::runtime_error(std::string(name) + " must have shape (C, H, W)");
    return simplematch::tensor(
        a.data.data(), {1, a.shape[0], a.shape[1], a.shape[2]}, {0, a.stride[0], a.stride[1], a.stride[2]});
}

simplematch_tensor points_of(const Array& a) {
    if (a.shape.size() != 2) throw std::runtime_error("keypoints must have shape (N, 2)");
    return simplematch::tensor(a.data.data(), {1, a.shape[0], a.shape[1]}, {0, a.stride[0], a.stride[1]});
}

void use_pixels(simplematch_match_problem& problem, int64_t height, int64_t width) {
    const int64_t *source = problem.source.size, *target = problem.target.size;
    simplematch::check(simplematch_sampling_in_pixels(
        &problem.sampling, SIMPLEMATCH_HALF_PIXEL, source[2], source[3], height, width));
    simplematch::check(simplematch_localization_in_pixels(
        &problem.localization, SIMPLEMATCH_HALF_PIXEL, target[2], target[3], height, width));
}

void match(int count, char** arguments) {
    const Array source = read_npy(arguments[1]), target = read_npy(arguments[2]), keypoints = read_npy(arguments[3]);
    simplematch_match_problem problem = simplematch_match_problem_default();
    problem.source = map_of(source, "source");
    problem.target = map_of(target, "target");
    problem.keypoints = points_of(keypoints);
    simplematch_window& window = problem.localization.window;
    if (count > 4) window.height = window.width = std::atoll(arguments[4]);
    if (count > 5) problem.localization.temperature = std::atof(arguments[5]);
    if (count > 7) use_pixels(problem, std::atoll(arguments[6]), std::atoll(arguments[7]));

    const size_t N = size_t(keypoints.shape[0]), M = size_t(target.shape[1] * target.shape[2]);
    std::vector<float> found(2 * N), score(N), log_sum_exp(N), norm(M);
    std::vector<int64_t> peak(N);
    const simplematch_match_result result = {
        {found.data(), score.data(), peak.data(), log_sum_exp.data()}, norm.data(), nullptr};
    simplematch::check(simplematch_sparse_window_match(&problem, &result, nullptr));

    for (size_t n = 0; n < N; ++n) {
        const int64_t at = int64_t(n) * keypoints.stride[0];
        std::printf("%.4f %.4f -> %.4f %.4f %.4f\n", keypoints.data[size_t(at)],
                    keypoints.data[size_t(at + keypoints.stride[1])], found[2 * n], found[2 * n + 1], score[n]);
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 4) {
        std::fprintf(stderr, "usage: %s source.npy target.npy keypoints.npy [window] [temperature] [height width]\n",
                     arguments[0]);
        return 2;
    }
    try {
        match(count, arguments);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}

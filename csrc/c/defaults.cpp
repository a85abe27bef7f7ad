// What a caller begins with: versions, defaults, and the maps between pixels and cells of simplematch_kernels/_options.py.
#include "common/defaults.h"

#include "common/affine.h"
#include "cpu/run.h"
#include "option_checks.h"

namespace {

void check_axes(int32_t coordinates, int64_t map_height, int64_t map_width, int64_t image_height, int64_t image_width) {
    simplematch::abi::check_axis(coordinates, "map_height", map_height, "image_height", image_height);
    simplematch::abi::check_axis(coordinates, "map_width", map_width, "image_width", image_width);
}

}  // namespace

using simplematch::kDefault;
using simplematch::rescale;
using simplematch::abi::check_axis;
using simplematch::abi::check_pointer;
using simplematch::abi::guard;

const char* simplematch_error_message(void) { return simplematch::abi::last_message(); }

const char* simplematch_version(void) { return SIMPLEMATCH_BUILD_VERSION; }

const char* simplematch_simd_level(void) { return simplematch::cpu::simd_level(); }

simplematch_tensor simplematch_contiguous(
    void* data, int32_t dtype, int64_t size0, int64_t size1, int64_t size2, int64_t size3) {
    simplematch_tensor t = {data, dtype, {size0, size1, size2, size3}, {0, 0, 0, 1}};
    // unsigned: sizes that overflow are refused by the operator, with a message
    for (int i = 2; i >= 0; --i) t.stride[i] = int64_t(uint64_t(t.stride[i + 1]) * uint64_t(t.size[i + 1]));
    return t;
}

simplematch_sampling simplematch_sampling_default(void) { return kDefault<simplematch_sampling>; }

simplematch_metric simplematch_metric_default(void) { return kDefault<simplematch_metric>; }

simplematch_localization simplematch_localization_default(void) { return kDefault<simplematch_localization>; }

simplematch_device simplematch_device_default(void) { return kDefault<simplematch_device>; }

simplematch_match_problem simplematch_match_problem_default(void) { return kDefault<simplematch_match_problem>; }

simplematch_localize_problem simplematch_localize_problem_default(void) { return kDefault<simplematch_localize_problem>; }

simplematch_gather_problem simplematch_gather_problem_default(void) { return kDefault<simplematch_gather_problem>; }

simplematch_similarity_problem simplematch_similarity_problem_default(void) { return kDefault<simplematch_similarity_problem>; }

simplematch_correlation_problem simplematch_correlation_problem_default(void) {
    return kDefault<simplematch_correlation_problem>;
}

simplematch_cross_entropy_problem simplematch_cross_entropy_problem_default(void) {
    return kDefault<simplematch_cross_entropy_problem>;
}

simplematch_match_all_problem simplematch_match_all_problem_default(void) { return kDefault<simplematch_match_all_problem>; }

simplematch_pair_problem simplematch_pair_problem_default(void) { return kDefault<simplematch_pair_problem>; }

simplematch_neighbour_problem simplematch_neighbour_problem_default(void) { return kDefault<simplematch_neighbour_problem>; }

simplematch_upsampled_problem simplematch_upsampled_problem_default(void) { return kDefault<simplematch_upsampled_problem>; }

simplematch_status simplematch_cells_from_pixels(
    int32_t coordinates, int64_t cells, int64_t pixels, simplematch_affine* map) {
    return guard([&] {
        check_axis(coordinates, "cells", cells, "pixels", pixels);
        check_pointer("map", map);
        *map = rescale(coordinates, pixels, cells);
    });
}

simplematch_status simplematch_pixels_from_cells(
    int32_t coordinates, int64_t cells, int64_t pixels, simplematch_affine* map) {
    return guard([&] {
        check_axis(coordinates, "cells", cells, "pixels", pixels);
        check_pointer("map", map);
        *map = rescale(coordinates, cells, pixels);
    });
}

simplematch_status simplematch_sampling_in_pixels(
    simplematch_sampling* sampling, int32_t coordinates, int64_t map_height, int64_t map_width, int64_t image_height,
    int64_t image_width) {
    return guard([&] {
        check_pointer("sampling", sampling);
        check_axes(coordinates, map_height, map_width, image_height, image_width);
        sampling->to_cells_x = rescale(coordinates, image_width, map_width);
        sampling->to_cells_y = rescale(coordinates, image_height, map_height);
    });
}

simplematch_status simplematch_localization_in_pixels(
    simplematch_localization* localization, int32_t coordinates, int64_t map_height, int64_t map_width,
    int64_t image_height, int64_t image_width) {
    return guard([&] {
        check_pointer("localization", localization);
        check_axes(coordinates, map_height, map_width, image_height, image_width);
        localization->from_cells_x = rescale(coordinates, map_width, image_width);
        localization->from_cells_y = rescale(coordinates, map_height, image_height);
    });
}

#include "option_checks.h"

#include <cinttypes>
#include <cmath>

#if defined(SIMPLEMATCH_HAS_CUDA)
#include "cuda/run.h"
#endif

namespace simplematch::abi {
namespace {

constexpr int32_t kMostThreads = 1024;

void check_flag(const char* name, int32_t value) { check_choice(name, value, 1, "0 or 1"); }

void check_affine(const char* name, const simplematch_affine& map) {
    if (map.denominator == 0) refuse("%s.denominator must not be 0, got 0", name);
}

void check_coordinates(const char* name, int32_t value) {
    check_choice(name, value, SIMPLEMATCH_ALIGN_CORNERS, "0 (corner), 1 (half_pixel) or 2 (align_corners)");
}

void check_disc(const char* window, const char* side, double cells) {
    if (!(cells >= 1) || cells > 0x1p62)
        refuse("%s.%s must be a number of cells from 1 to 2^62 for a disc, got %g", window, side, cells);
}

void check_shape(const char* name, const simplematch_window& window) {
    if (window.shape < SIMPLEMATCH_SQUARE || window.shape > SIMPLEMATCH_CLOSED_DISC)
        refuse("%s.shape must be 0 (square), 1 (plus), 2 (disc) or 3 (closed disc), got %" PRId32, name, window.shape);
    if (window.shape != SIMPLEMATCH_DISC && window.shape != SIMPLEMATCH_CLOSED_DISC) return;
    check_disc(name, "disc_height", window.disc_height);
    check_disc(name, "disc_width", window.disc_width);
}

void check_at_least_one(const char* name, int64_t value, const char* unit) {
    if (value < 1) refuse("%s must be at least 1 %s, got %" PRId64, name, unit, value);
}

}  // namespace

void check_sampling(const simplematch_sampling& s, int64_t batch) {
    check_choice("sampling.mode", s.mode, SIMPLEMATCH_BILINEAR, "0 (floor), 1 (round) or 2 (bilinear)");
    check_choice("sampling.padding", s.padding, SIMPLEMATCH_BORDER, "0 (zeros) or 1 (border)");
    check_affine("sampling.to_cells_x", s.to_cells_x);
    check_affine("sampling.to_cells_y", s.to_cells_y);
    check_coordinates("sampling.coordinates", s.coordinates);
    check_optional_array("sampling.image_sizes", s.image_sizes, {batch, 2}, sizeof(int64_t));
}

void check_metric(const simplematch_metric& m) {
    check_choice("metric.kind", m.kind, SIMPLEMATCH_L1, "0 (cosine), 1 (dot), 2 (l2) or 3 (l1)");
    check_flag("metric.clamp_eps", m.clamp_eps);
    if (!(m.eps >= 0) || std::isinf(m.eps)) refuse("metric.eps must be a finite number of at least 0, got %g", m.eps);
}

void check_localization(const simplematch_localization& l, int64_t batch, bool number) {
    check_at_least_one("window.height", l.window.height, "cell");
    check_at_least_one("window.width", l.window.width, "cell");
    check_flag("window.shift", l.window.shift);
    check_shape("window", l.window);
    if (std::isnan(l.window.outside_value) || l.window.outside_value == INFINITY)
        refuse("window.outside_value must be -inf or a finite number, got %g", l.window.outside_value);
    if (!(l.window.sigma >= 0) || std::isinf(l.window.sigma))
        refuse("window.sigma must be 0 or a finite number above 0, got %g", l.window.sigma);
    if (l.second.height < 0)
        refuse("second.height must be at least 1 cell, or 0 for that of window, got %" PRId64, l.second.height);
    if (l.second.height > 0) {
        check_at_least_one("second.width", l.second.width, "cell");
        check_flag("second.shift", l.second.shift);
        check_shape("second", l.second);
    }
    if (number && (!(l.temperature > 0) || std::isinf(l.temperature)))
        refuse("localization.temperature must be a finite number above 0, got %g", l.temperature);
    check_affine("localization.from_cells_x", l.from_cells_x);
    check_affine("localization.from_cells_y", l.from_cells_y);
    check_coordinates("localization.coordinates", l.coordinates);
    check_optional_array("localization.image_sizes", l.image_sizes, {batch, 2}, sizeof(int64_t));
    if (!std::isfinite(l.output_offset))
        refuse("localization.output_offset must be a finite number, got %g", l.output_offset);
}

void check_truth(const simplematch_truth& t, bool number) {
    check_affine("truth.to_cells_x", t.to_cells_x);
    check_affine("truth.to_cells_y", t.to_cells_y);
    check_at_least_one("truth.kernel_size", t.kernel_size, "cell");
    if (!(t.sigma > 0) || std::isinf(t.sigma)) refuse("truth.sigma must be a finite number above 0, got %g", t.sigma);
    if (number && (!(t.temperature > 0) || std::isinf(t.temperature)))
        refuse("truth.temperature must be a finite number above 0, got %g", t.temperature);
}

void check_score_budget(int64_t bytes) { check_at_least_one("score_budget", bytes, "byte"); }

void check_axis(int32_t coordinates, const char* cells_name, int64_t cells, const char* pixels_name, int64_t pixels) {
    check_coordinates("coordinates", coordinates);
    if (cells < 1 || cells > kMostElements) refuse("%s must be from 1 to 2^40 cells, got %" PRId64, cells_name, cells);
    if (pixels < 1 || pixels > kMostElements)
        refuse("%s must be from 1 to 2^40 pixels, got %" PRId64, pixels_name, pixels);
}

void check_device(const simplematch_device& device) {
    check_choice("device.kind", device.kind, SIMPLEMATCH_CUDA, "0 (CPU) or 1 (CUDA)");
#if !defined(SIMPLEMATCH_HAS_CUDA)
    if (device.kind == SIMPLEMATCH_CUDA)
        unsupported("device.kind must be 0 (CPU): this library was built without CUDA, got 1 (CUDA)");
#else
    if (device.kind == SIMPLEMATCH_CUDA) {
        if (const char* reason = cuda::why_not()) unsupported("device.kind must be 0 (CPU), got 1 (CUDA): %s", reason);
        if (device.index >= cuda::device_count())
            refuse("device.index must be below %d, the number of GPUs, got %" PRId32, cuda::device_count(), device.index);
    }
#endif
    if (device.index < 0) refuse("device.index must be at least 0, got %" PRId32, device.index);
    if (device.threads < 0 || device.threads > kMostThreads)
        refuse("device.threads must be 0 (all processors) or from 1 to %" PRId32 ", got %" PRId32, kMostThreads,
               device.threads);
    if (device.workspace_bytes < 0)
        refuse("device.workspace_bytes must be at least 0, got %" PRId64, device.workspace_bytes);
}

void check_workspace(const simplematch_device& device, int64_t needed) {
    if (device.workspace_bytes < needed)
        refuse("device.workspace_bytes must be at least %" PRId64 " for this problem, got %" PRId64, needed,
               device.workspace_bytes);
    if (needed > 0 && device.workspace == nullptr)
        refuse("device.workspace must point to %" PRId64 " bytes, got NULL", needed);
    const uintptr_t rest = reinterpret_cast<uintptr_t>(device.workspace) % 256;
    if (needed > 0 && rest != 0)
        refuse("device.workspace must be aligned to 256 bytes, got an address %d bytes past that", int(rest));
}

}  // namespace simplematch::abi

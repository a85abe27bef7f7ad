// The options of the operators, resolved into numbers. They mirror simplematch_kernels/_options.py.
#pragma once

#include <cstdint>
#include <limits>

namespace simplematch {

// y = (x * numerator + shift) / denominator, in float64.
struct AffineMap {
    int64_t numerator = 1;
    int64_t shift = 0;
    int64_t denominator = 1;
};

enum class SamplingMode : int32_t { floor = 0, round = 1, bilinear = 2 };

// How a keypoint reads a map: to cells first, then the mode. `border`: a bilinear sample clamps its coordinates,
// otherwise it finds zeros outside the map.
struct Sampling {
    AffineMap to_cells_x;
    AffineMap to_cells_y;
    SamplingMode mode = SamplingMode::floor;
    bool border = false;
};

enum class MetricKind : int32_t { cosine = 0, dot = 1, l2 = 2 };

// The cosine divides by |x| + eps, or by max(|x|, eps) if `clamp_eps`.
struct Metric {
    MetricKind kind = MetricKind::cosine;
    double eps = 1e-8;
    bool clamp_eps = false;
};

// The cells around the peak that take part in the soft-argmax; height and width may exceed the map. With `shift` the
// window is pushed into the map whole, otherwise the part of the centred window that exists is used; `disc` keeps
// (2 dx / width)^2 + (2 dy / height)^2 < 1 of it. Cells outside count as scores of `outside_value` (-inf: not at
// all). `sigma` > 0 multiplies scores by exp(-d^2 / (2 sigma^2)) around the peak.
struct Window {
    int64_t height = 1;
    int64_t width = 1;
    bool shift = true;
    bool disc = false;
    double outside_value = -std::numeric_limits<double>::infinity();
    double sigma = 0;
};

// From scores to coordinates: the window, the temperature (unless a tensor gives it) and the map to the user's units.
struct Localization {
    Window window;
    double temperature = 1;
    AffineMap from_cells_x;
    AffineMap from_cells_y;
    double output_offset = 0;
};

}  // namespace simplematch

// The sets of match_all: which vectors of an image take part, and what the steps need to know of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "driver.h"
#include "match_all.h"

namespace simplematch::cpu {

// One side of one image at a time; memory for any image.
template <class T>
class SetData {
public:
    SetData(const View& view, const Rows& rows, const Metric& metric, const MatchAllSteps<T>& steps)
        : rows_(rows), ragged_(rows.num_keypoints != nullptr || rows.valid != nullptr), steps_(steps) {
        const int64_t vectors = cells_of(view);
        const bool cosine = metric.kind == SIMPLEMATCH_COSINE, distances = metric.kind == SIMPLEMATCH_L2;
        if (ragged_) cells_ = Buffer<int32_t>(vectors);
        if (cosine) factor_ = Buffer<T>(vectors);
        if (distances) square_ = Buffer<T>(vectors);
        if (distances) centre_ = Buffer<T>(view.size[1]);
        mark_ = Buffer<uint8_t>(vectors);
        set_ = {view, 0, cells_.get(), vectors, metric, nullptr, nullptr, factor_.get(), square_.get(), mark_.get()};
    }

    // Lists the valid vectors of image b. `rest`: the others instead.
    void choose(int64_t b, bool rest = false) {
        const int64_t vectors = cells_of(set_.view);
        set_.image = b;
        set_.count = ragged_ ? 0 : rest ? 0 : vectors;
        for (int64_t n = 0; ragged_ && n < vectors; ++n)
            if (is_valid(rows_, b, n, vectors) != rest) cells_[set_.count++] = int32_t(n);
    }

    const VectorSet<T>& set() const { return set_; }

    // Where a cell stands in the set; -1: it is padding.
    int64_t position(int64_t cell) const {
        if (!ragged_) return cell;
        const int32_t* const end = cells_.get() + set_.count;
        const int32_t* const found = std::lower_bound<const int32_t*>(cells_.get(), end, int32_t(cell));
        return found != end && *found == cell ? found - cells_.get() : -1;
    }

    // l2: a point that both sets lose, if they lie so far from zero that distances would lose digits. That changes no distance.
    static void centre(SetData& a, SetData& b) {
        a.set_.centre = b.set_.centre = nullptr;
        if (b.centre_.get() == nullptr) return;
        double distance = 0, spread = 0;
        for (int64_t c = 0; c < b.set_.channels(); ++c) {
            const auto [mean, variance] = b.sample(c);
            b.centre_[c] = T(mean);
            distance += mean * mean;
            spread += variance;
        }
        if (!(distance > 2 * spread)) return;
        // On a grid finer than the spread: small integers stay such, and their equal distances equal.
        const double step = spread > 0 ? std::exp2(std::floor(std::log2(spread / double(b.set_.channels())) / 2) - 3) : 0;
        for (int64_t c = 0; step > 0 && c < b.set_.channels(); ++c)
            b.centre_[c] = T(std::round(double(b.centre_[c]) / step) * step);
        a.set_.centre = b.set_.centre = b.centre_.get();
    }

    // Norms of all vectors to `norm`, or null. Leaves the valid ones chosen; returns their greatest square.
    double measure(T* norm, int threads, const ThreadScratch<T>& scratch) {
        if (norm != nullptr && ragged_) {
            const VectorSet<T> chosen = set_;
            choose(set_.image, true);
            set_.norm = norm;
            set_.centre = nullptr;
            set_.factor = set_.square = nullptr;
            set_.mark = nullptr;
            measure_chosen(threads, scratch);
            set_ = chosen;
            choose(set_.image);
        }
        set_.norm = norm;
        return measure_chosen(threads, scratch);
    }

private:
    // Mean and variance of a channel of some vectors, spread over all; great numbers and NaN do not count.
    std::pair<double, double> sample(int64_t c) const {
        double sum = 0, squares = 0, count = 0;
        for (int64_t i = 0; i < set_.count; i += std::max<int64_t>(1, set_.count / 256)) {
            const double x = read_element(set_.view, set_.offset(i) + c * set_.view.stride[1]);
            if (!(std::abs(x) <= 0x1p60)) continue;
            sum += x;
            squares += x * x;
            ++count;
        }
        const double mean = count > 0 ? sum / count : 0;
        return {mean, count > 0 ? std::max(0.0, squares / count - mean * mean) : 0};
    }

    double measure_chosen(int threads, const ThreadScratch<T>& scratch) {
        double greatest = 0;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1) reduction(max : greatest)
        for (int64_t first = 0; first < set_.count; first += steps_.panel_columns)
            greatest = std::max(greatest, steps_.measure(set_, first, scratch.mine()));
        return greatest;
    }

    Rows rows_;
    bool ragged_;
    MatchAllSteps<T> steps_;
    Buffer<int32_t> cells_;
    Buffer<T> factor_, square_, centre_;
    Buffer<uint8_t> mark_;
    VectorSet<T> set_;
};

}  // namespace simplematch::cpu

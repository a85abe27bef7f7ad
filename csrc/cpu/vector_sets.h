// The sets of match_all: which vectors of an image take part, and what the steps need to know of them.
#pragma once

#include <algorithm>

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

    // l2: the mean of some vectors of b, spread over all. Distances do not change if it is subtracted, and lose fewer digits.
    static void centre(SetData& a, SetData& b) {
        if (b.centre_.get() == nullptr) return;
        const VectorSet<T>& set = b.set_;
        const int64_t step = std::max<int64_t>(1, set.count / 256);
        for (int64_t c = 0; c < set.channels(); ++c) {
            double sum = 0, count = 0;
            for (int64_t i = 0; i < set.count; i += step) {
                const double x = read_element(set.view, set.offset(i) + c * set.view.stride[1]);
                if (!(x <= 0x1p60 && x >= -0x1p60)) continue;  // nor NaN
                sum += x;
                ++count;
            }
            b.centre_[c] = count > 0 ? T(sum / count) : T(0);
        }
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

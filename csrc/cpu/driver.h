// What the drivers of the operators share: threads, blocks of queries, query vectors.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <algorithm>
#include <vector>

#include "cpu/run.h"
#include "gather.h"
#include "kernels.h"
#include "memory.h"
#include "storage.h"

namespace simplematch::cpu {

static inline int thread_index() {
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static inline int team_size() {
#if defined(_OPENMP)
    return omp_get_num_threads();
#else
    return 1;
#endif
}

// Waking threads costs several microseconds: a task of few multiply-adds runs on the caller's thread. `threads` 0: all.
static inline int threads_for(int threads, double operations) {
    if (operations < 2e5) return 1;
#if defined(_OPENMP)
    if (threads == 0) return omp_get_max_threads();
#endif
    return std::max(1, threads);
}

static inline View images_from(const View& view, int64_t first) {
    View shifted = view;
    if (view.data != nullptr)
        shifted.data = static_cast<char*>(view.data) + first * view.stride[0] * item_size(view.dtype);
    return shifted;
}

// What has to be known of all cells that can be selected, those outside the window too.
enum class Outside { nothing, totals, squares };

// Cells outside count where they have a value; covariances then need the squares.
static inline Outside outside_of(const Localization& localization, bool with_covariance) {
    if (localization.window.outside_value == -__builtin_inf()) return Outside::nothing;
    return with_covariance ? Outside::squares : Outside::totals;
}

// Which rows are valid, and which cells each can select.
struct RowTable {
    Buffer<uint8_t> valid;  // (B, N)
    CellMasks masks;
    int64_t masks_of_image;       // 1, or N
    Outside outside;              // what there is of the next two
    Buffer<CellTotals> totals;    // (B, masks_of_image) or empty
    Buffer<CellSquares> squares;  // likewise

    int64_t slot(int64_t b, int64_t n) const { return masks_of_image == 1 ? b : b * masks_of_image + n; }
    const uint8_t* mask(int64_t b, int64_t n) const { return masks.of(b, n); }
    CellTotals totals_of(int64_t b, int64_t n) const {
        return outside == Outside::nothing ? CellTotals{} : totals[slot(b, n)];
    }
    const CellSquares* squares_of(int64_t b, int64_t n) const {
        return outside == Outside::squares ? squares.get() + slot(b, n) : nullptr;
    }
};

RowTable list_rows(const Rows& rows, int64_t batch, int64_t queries, int64_t height, int64_t width, Outside outside);

// A block of queries of some images: at most `queries` of at most `images`.
struct BlockSize {
    int64_t images, queries;
};

// As much as fits the budget: all images, else whole images, else part of an image's queries; at least one query.
static inline BlockSize block_size(int64_t batch, int64_t queries, int64_t bytes_per_query, int64_t budget) {
    const int64_t fits = std::max<int64_t>(1, budget / std::max<int64_t>(1, bytes_per_query));
    if (queries <= fits)
        return {std::max<int64_t>(1, std::min(batch, fits / std::max<int64_t>(1, queries))), queries};
    return {1, fits};
}

// The query vectors of a block, with their norms and lists of valid rows.
template <class T>
class QueryBlock {
public:
    QueryBlock(BlockSize most, int64_t channels)
        : stride_(round_up(channels, kTile)),
          channels_(channels),
          vectors_(most.images * most.queries * stride_ + kTile),
          norm_(most.images * most.queries),
          rows_(most.images * most.queries),
          row_count_(most.images),
          samples_(most.images * most.queries) {}

    // Queries [first, first + count) of images [b, b + images). Called by one thread; `locate` gives the Sample of (b, n).
    template <class Locate>
    void choose(const RowTable& table, int64_t all_queries, int64_t b, int64_t images, int64_t first, int64_t count,
                Locate&& locate) {
        images_ = images;
        count_ = count;
        valid_.resize(size_t(images * count));
        for (int64_t i = 0; i < images; ++i) {
            row_count_[i] = 0;
            for (int64_t n = 0; n < count; ++n) {
                const bool valid = table.valid[(b + i) * all_queries + first + n] != 0;
                valid_[size_t(i * count + n)] = valid;
                if (!valid) continue;
                rows_[i * count + row_count_[i]++] = int32_t(n);
                samples_[i * count + n] = locate(b + i, first + n);
            }
        }
    }

    // Called by all threads of a team. `map` starts at the block's first image.
    void load(const View& map, const Kernels<T>& kernels) {
        constexpr int64_t group = 16;
        const int64_t groups = (count_ + group - 1) / group;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < images_ * groups; ++task) {
            const int64_t i = task / groups, n = task % groups * group, here = std::min(group, count_ - n);
            const int64_t at = i * count_ + n;
            T* const vectors = vectors_.get() + at * stride_;
            gather_padded(map, i, samples_.get() + at, valid_.data() + at, here, 0, channels_, vectors, stride_);
            kernels.norms(vectors, stride_, channels_, here, norm_.get() + at);
        }
    }

    // Called by all threads of a team, once scores are known: the vectors as the backward takes them.
    void to_units(const Metric& metric, const Kernels<T>& kernels) {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < images_; ++i)
            for (int64_t r = 0; r < row_count_[i]; ++r) {
                const int64_t at = i * count_ + rows_[i * count_ + r];
                kernels.to_units(vectors_.get() + at * stride_, stride_, channels_, 1, norm_.get() + at, metric);
            }
    }

    Queries<T> view() const { return {count_, stride_, vectors_.get(), norm_.get(), rows_.get(), row_count_.get()}; }
    bool valid(int64_t i, int64_t n) const { return valid_[size_t(i * count_ + n)] != 0; }
    int64_t stride() const { return stride_; }
    const Sample& sample(int64_t i, int64_t n) const { return samples_[i * count_ + n]; }

private:
    int64_t stride_, channels_, images_ = 0, count_ = 0;
    Buffer<T> vectors_, norm_;
    Buffer<int32_t> rows_, row_count_;
    Buffer<Sample> samples_;
    std::vector<uint8_t> valid_;
};

// Memory of each thread of a team.
template <class T>
class ThreadScratch {
public:
    ThreadScratch(int threads, int64_t count) : count_(round_up(count, 64) + 64), buffer_(count_ * threads) {}
    T* mine() const { return buffer_.get() + count_ * thread_index(); }

private:
    int64_t count_;
    Buffer<T> buffer_;
};

// Called by all threads of a team: scores of the block's queries, to (images, queries, M).
template <class T>
void similarity_of_block(const View& target, const Queries<T>& queries, int64_t images, const Metric& metric, T* scores,
                         T* target_norm, bool norm_known, const Kernels<T>& kernels, T* scratch,
                         const int32_t* active = nullptr, const int32_t* active_count = nullptr, bool past_cache = false) {
    const int64_t tiles = tiles_of(target.size[2] * target.size[3]);
    const SimilarityWork<T> work{target, queries, metric, scores, target_norm, norm_known, active, active_count, past_cache};
    // A thread takes several tiles in a row: it fetches the beginning of the next one ahead, and neighbours share lines.
    const int64_t together = std::max<int64_t>(1, std::min<int64_t>(8, images * tiles / (8 * team_size())));
#pragma omp for schedule(dynamic, together)
    for (int64_t task = 0; task < images * tiles; ++task) kernels.similarity(work, task / tiles, task % tiles, scratch);
}

// One block of queries and what its gradients are made of. Views and arrays start at the block's first image.
template <class T>
struct BlockTerms {
    View target, gradient;           // gradient data null: not wanted
    Queries<T> queries;
    int64_t images;
    WindowScores<T> gradients, scores;
    const T* target_norm;
    T* query_gradient;               // or null: not wanted
    int64_t query_image_stride;
    bool first, last;                // block of these images
};

// The gradients of one block of queries; what target_backward and query_backward need beyond their weights.
template <class T>
class BlockGradients {
public:
    BlockGradients(BlockSize most, int64_t height, int64_t width, int64_t channels, bool several_blocks, bool want_target)
        : tiles_(tiles_of(height * width)),
          weights_(most.images * tiles_ * most.queries * kTile),
          active_(most.images * tiles_ * most.queries),
          active_count_(most.images * tiles_),
          cell_sum_(most.images * tiles_ * kTile),
          cell_own_(most.images * tiles_ * kTile),
          cell_inverse_(most.images * tiles_ * kTile),
          extreme_(most.images * tiles_),
          query_own_(most.images * most.queries),
          boxes_(most.images * most.queries) {
        if (several_blocks && want_target) sums_ = Buffer<T>(tiles_ * kTile * round_up(channels, kTile));
        if (several_blocks && want_target) has_sums_ = true;
    }

    Box& box(int64_t i) { return boxes_[i]; }
    void set_query_own(int64_t i, T norm, double sum, double sum_with_score, const Metric& metric);

    // Called by all threads of a team.
    void run(const BlockTerms<T>& block, const Metric& metric, const Kernels<T>& kernels, int threads, T* scratch);

private:
    int64_t tiles_;
    Buffer<T> weights_;
    Buffer<int32_t> active_, active_count_;
    Buffer<T> cell_sum_, cell_own_, cell_inverse_;
    Buffer<uint8_t> extreme_;
    Buffer<T> query_own_;
    Buffer<Box> boxes_;
    Buffer<T> sums_;
    bool has_sums_ = false;
};

constexpr int64_t kMostChannels = 256;  // of a task of the backward

// A block of queries whose gradients fill the map is read and written several times: more than this goes to memory and back,
// and is cleared by the system first. Much smaller blocks would carry the sums of the target's gradient too often.
constexpr int64_t kGradientsInCache = 32 << 20;

}  // namespace simplematch::cpu

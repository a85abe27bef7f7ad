// What the drivers of the operators share: the device, its workspace, and parts of tensors.
#pragma once

#include <algorithm>

#include "launch.h"
#include "cuda/run.h"

namespace simplematch::cuda {

int processors_of(int device);

inline Stream stream_of(const Device& device) { return {device.stream, processors_of(device.index)}; }

// Makes a device the current one, and the previous one again.
class OnDevice {
public:
    explicit OnDevice(int device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    int previous_ = 0;
};

// Hands out the workspace piece by piece; without memory it only counts.
class Workspace {
public:
    explicit Workspace(void* memory) : memory_(static_cast<char*>(memory)) {}

    void* take(int64_t bytes) {
        void* const piece = memory_ == nullptr ? nullptr : memory_ + used_;
        used_ += round_up(bytes, 256);
        return piece;
    }
    int64_t used() const { return used_; }

private:
    char* memory_;
    int64_t used_ = 0;
};

// The tensor from index `first` of a dimension on.
inline View from(const View& view, int dimension, int64_t first) {
    View shifted = view;
    if (view.data != nullptr)
        shifted.data = static_cast<char*>(view.data) + first * view.stride[dimension] * item_size(view.dtype);
    return shifted;
}

template <class T>
inline T* from(T* array, int64_t first) {
    return array == nullptr ? nullptr : array + first;
}

inline void* bytes_from(void* array, int64_t bytes) { return array == nullptr ? nullptr : static_cast<char*>(array) + bytes; }

// Options, rows and cells of the images from `b` on.
inline Sampling from(Sampling sampling, int64_t b) {
    sampling.image_sizes = from(sampling.image_sizes, 2 * b);
    return sampling;
}

inline Localization from(Localization localization, int64_t b) {
    localization.image_sizes = from(localization.image_sizes, 2 * b);
    return localization;
}

inline Rows from(const Rows& rows, int64_t b, int64_t queries, int64_t cells) {
    return {from(rows.num_keypoints, b), from(rows.valid, b * queries),
            from(rows.target_mask, b * masks_of(rows, queries, cells).image), rows.target_mask_stride};
}

inline View contiguous(void* data, int32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
    return {data, dtype, {a, b, c, d}, {b * c * d, c * d, d, 1}};
}

// Queries as tiles, and where `similarity` writes the best cells.
struct SimilarityScratch {
    SimilarityScratch() = default;
    QueryTiles queries;
    TileBest best;

    SimilarityScratch(Workspace& workspace, const View& target, int64_t images, int64_t count, bool bilinear, bool with_best) {
        const int64_t queries_padded = QueryTiles::padded_queries(count), item = item_size(target.dtype);
        const int64_t channels = QueryTiles::padded_channels(target.size[1]);
        queries.parts = bilinear && item == 2 ? 2 : 1;
        queries.data = workspace.take(queries.parts * images * channels * queries_padded * item);
        queries.squares = workspace.take(images * (channels / QueryTiles::kTile) * queries_padded *
                                         item_size(arithmetic_of(target.dtype)));
        const int64_t slots = with_best ? images * count * tiles_of(cells_of(target), 32) : 0;
        best = {nullptr, nullptr, 0};
        if (with_best) {
            best.key = static_cast<int64_t*>(workspace.take(slots * int64_t(sizeof(int64_t))));
            best.cell = static_cast<int32_t*>(workspace.take(slots * int64_t(sizeof(int32_t))));
        }
    }

    // Scores of a block, and its best cells.
    TileBest run(const QuerySource& from, const Rows& rows, const View& target, const Metric& metric, const Block& block,
                 void* scores, void* norms, Stream stream) const {
        TileBest found = best;
        found.tiles = similarity_tiles(target, block, stream);
        gather(from, rows, block, queries, stream);
        const CellMasks masks = masks_of(rows, block.total, cells_of(target));
        similarity({queries, from, target, masks, metric, scores, norms, found}, block, stream);
        return found;
    }
};

}  // namespace simplematch::cuda

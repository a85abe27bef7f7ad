#include "driver.h"

namespace simplematch::cpu {

namespace {

CellSquares squares_of_map(const uint8_t* mask, int64_t height, int64_t width) {
    CellSquares sums{0, 0, 0};
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
            if (mask != nullptr && !mask[y * width + x]) continue;
            sums.xx += double(x) * double(x);
            sums.xy += double(x) * double(y);
            sums.yy += double(y) * double(y);
        }
    return sums;
}

bool has_cell(const uint8_t* mask, int64_t cells) {
    return mask == nullptr || std::any_of(mask, mask + cells, [](uint8_t cell) { return cell != 0; });
}

CellTotals totals_of_map(const uint8_t* mask, int64_t height, int64_t width) {
    if (mask == nullptr)
        return {double(height) * double(width), double(height) * double(width) * double(width - 1) / 2,
                double(width) * double(height) * double(height - 1) / 2};
    int64_t count = 0, sum_x = 0, sum_y = 0;
    for (int64_t y = 0; y < height; ++y) {
        int64_t in_row = 0;
        for (int64_t x = 0; x < width; ++x) {
            in_row += mask[y * width + x] ? 1 : 0;
            sum_x += mask[y * width + x] ? x : 0;
        }
        count += in_row;
        sum_y += in_row * y;
    }
    return {double(count), double(sum_x), double(sum_y)};
}

}  // namespace

RowTable list_rows(const Rows& rows, int64_t batch, int64_t queries, int64_t height, int64_t width, Outside outside) {
    const int64_t cells = height * width;
    const CellMasks of_queries = masks_of(rows, queries, cells);
    const int64_t of_image = of_queries.query == 0 ? 1 : queries, masks = batch * of_image;
    RowTable table{Buffer<uint8_t>(batch * queries), of_queries, of_image, outside,
                   Buffer<CellTotals>(outside == Outside::nothing ? 0 : masks),
                   Buffer<CellSquares>(outside == Outside::squares ? masks : 0)};
    bool some = true;
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t n = 0; n < queries; ++n) {
            if (n < of_image) {  // another mask
                const uint8_t* const mask = table.mask(b, n);
                const int64_t slot = table.slot(b, n);
                const bool repeated = mask == nullptr && slot > 0;
                some = has_cell(mask, cells);
                if (outside != Outside::nothing)
                    table.totals[slot] = repeated ? table.totals[0] : totals_of_map(mask, height, width);
                if (outside == Outside::squares)
                    table.squares[slot] = repeated ? table.squares[0] : squares_of_map(mask, height, width);
            }
            table.valid[b * queries + n] = some && is_valid(rows, b, n, queries);
        }
    return table;
}

template <class T>
void BlockGradients<T>::set_query_own(int64_t i, T norm, double sum, double sum_with_score, const Metric& metric) {
    double factor = 0;
    if (metric.kind == SIMPLEMATCH_L2) {
        factor = 2 * sum;
    } else if (metric.kind == SIMPLEMATCH_COSINE && sum_with_score != 0 && norm != 0 &&
               !(metric.clamp_eps && norm < T(metric.eps))) {
        const double length = double(norm);  // the query comes as q / D(q): this makes it q / |q|
        factor = sum_with_score * ((metric.clamp_eps ? length : length + double(T(metric.eps))) / length);
    }
    query_own_[i] = T(factor);
}

template <class T>
void BlockGradients<T>::run(const BlockTerms<T>& block, const Metric& metric, const Kernels<T>& kernels, int threads,
                            T* scratch) {
    const View& target = block.target;
    const int64_t height = target.size[2], width = target.size[3], channels = target.size[1], images = block.images;
    const WeightWork<T> weigh{height, width, block.queries, metric, boxes_.get(), block.gradients, block.scores,
                              block.target_norm, block.first, weights_.get(), active_.get(), active_count_.get(),
                              cell_sum_.get(), cell_own_.get(), cell_inverse_.get(), extreme_.get()};
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < images * tiles_; ++task) kernels.weights(weigh, task / tiles_, task % tiles_);

    const GradientWork<T> work{target, block.gradient, block.queries, weights_.get(), active_.get(),
                               active_count_.get(), cell_own_.get(), cell_inverse_.get(), extreme_.get(), metric,
                               block.query_gradient, block.query_image_stride, query_own_.get(),
                               has_sums_ ? sums_.get() : nullptr, block.first, block.last, is_large(block.gradient)};
    // Wide ranges of channels reuse the weights more, several ranges for each thread balance the load. A channel's
    // result does not depend on its range.
    int64_t range = kMostChannels;
    while (range > kTile && images * ((channels + range - 1) / range) < 4 * threads) range -= kTile;
    const int64_t ranges = (channels + range - 1) / range;
    range = std::min(range, round_up((channels + ranges - 1) / ranges, kTile));
    // Whole images to a thread where that balances: threads that first touch the same huge page would each clear it.
    const int64_t together = images % threads == 0 || images >= 4 * threads ? ranges : 1;
#pragma omp for schedule(dynamic, together)
    for (int64_t task = 0; task < images * ranges; ++task) {
        const int64_t start = task % ranges * range;
        if (start < channels)
            kernels.target_and_query_backward(work, task / ranges, start, std::min(start + range, channels), scratch);
    }
}

template class BlockGradients<float>;
template class BlockGradients<double>;

}  // namespace simplematch::cpu

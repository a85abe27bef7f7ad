// The steps as operators of their own: localize, gather_keypoints, cosine_similarity.
#include <type_traits>

#include "driver.h"
#include "localization.h"

namespace simplematch {
namespace cpu {
namespace {

// One row of scores as contiguous T: in place where it is, else copied.
template <class T>
const T* contiguous_row(const View& scores, int64_t b, int64_t n, T* copy) {
    const int64_t height = scores.size[2], width = scores.size[3];
    const int64_t offset = b * scores.stride[0] + n * scores.stride[1];
    const bool same = scores.dtype == (std::is_same<T, double>::value ? DType::float64 : DType::float32);
    if (same && (scores.stride[3] == 1 || width == 1) && (scores.stride[2] == width || height == 1))
        return static_cast<const T*>(scores.data) + offset;
    with_storage(scores.dtype, [&](auto* type) {
        auto from = static_cast<decltype(type)>(scores.data) + offset;
        for (int64_t y = 0; y < height; ++y)
            for (int64_t x = 0; x < width; ++x)
                copy[y * width + x] = T(to_float(from[y * scores.stride[2] + x * scores.stride[3]]));
    });
    return copy;
}

template <class T>
void write_row(const View& scores, int64_t b, int64_t n, const T* row) {
    with_storage(scores.dtype, [&](auto* type) {
        auto to = static_cast<decltype(type)>(scores.data) + b * scores.stride[0] + n * scores.stride[1];
        for (int64_t y = 0; y < scores.size[2]; ++y)
            for (int64_t x = 0; x < scores.size[3]; ++x)
                from_float(row[y * scores.size[3] + x], to + y * scores.stride[2] + x * scores.stride[3]);
    });
}

template <class T>
RowWork<T> row_work(const LocalizeProblem& p, const RowTable& table, int64_t b, int64_t n, const T* scores, T* scratch) {
    const int64_t height = p.scores.size[2], width = p.scores.size[3];
    return {height, width, p.localization.window, scores, width,
            table.mask == nullptr ? nullptr : table.mask + b * height * width, table.totals[b],
            T(temperature_of(p.temperature, p.localization, b, n)), scratch};
}

template <class T>
void localize_all(const LocalizeProblem& p, const Matches& matches) {
    const int64_t batch = p.scores.size[0], count = p.scores.size[1], height = p.scores.size[2], width = p.scores.size[3];
    const int64_t cells = height * width;
    const int threads = threads_for(p.threads, double(batch) * double(count) * double(cells) * 4);
    const Kernels<T>& steps = kernels<T>();
    const RowTable table = list_rows(p.rows, batch, count, height, width);
    const ThreadScratch<T> scratch(threads, row_scratch(height, width) + round_up(cells, kTile));
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < batch * count; ++i) {
        if (!table.valid[i]) {
            write_invalid<T>(matches, i);
            continue;
        }
        T* const copy = scratch.mine();
        const T* const row = contiguous_row(p.scores, i / count, i % count, copy);
        const RowWork<T> work = row_work(p, table, i / count, i % count, row, copy + round_up(cells, kTile));
        write_match<T>(matches, i, steps.localize(work), p.localization);
    }
}

template <class T>
void localize_all_backward(const LocalizeProblem& p, const Matches& matches, const Upstream& upstream,
                           const View& scores_gradient, const View& temperature_gradient) {
    const int64_t batch = p.scores.size[0], count = p.scores.size[1], height = p.scores.size[2], width = p.scores.size[3];
    const int64_t cells = height * width, padded = round_up(cells, kTile);
    const int threads = threads_for(p.threads, double(batch) * double(count) * double(cells) * 4);
    const Kernels<T>& steps = kernels<T>();
    const RowTable table = list_rows(p.rows, batch, count, height, width);
    const ThreadScratch<T> scratch(threads, row_scratch(height, width) + 2 * padded);
    prepare_output(scores_gradient);
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < batch * count; ++i) {
        const int64_t b = i / count, n = i % count;
        T* const result = scratch.mine();
        T* const copy = result + padded;
        std::fill(result, result + cells, T(0));
        double temperature = 0;
        if (table.valid[i]) {
            RowGradient<T> gradient = upstream_of_row<T>(upstream, p.localization, b, n);
            gradient.peak = matches.peak[i];
            const Box box = window_box(p.localization.window, gradient.peak, height, width);
            const int64_t first = box.top * width + box.left;
            gradient.scores = result + first;
            gradient.stride = width;
            const T* const row = contiguous_row(p.scores, b, n, copy);
            steps.localize_backward(row_work(p, table, b, n, row + first, copy + padded), gradient);
            temperature = gradient.temperature;
        }
        if (scores_gradient.data != nullptr) write_row(scores_gradient, b, n, result);
        write_row_gradient(temperature_gradient, b, n, temperature);
    }
}

template <class T>
void gather_all(const View& features, const View& keypoints, const Sampling& sampling, void* descriptors, int wanted_threads) {
    const int64_t batch = features.size[0], channels = features.size[1], count = keypoints.size[1];
    const int threads = threads_for(wanted_threads, double(batch) * double(count) * double(channels) * 4);
    const int64_t chunks = (channels + kTile - 1) / kTile;
    Buffer<Sample> samples(batch * count);
    const std::vector<uint8_t> valid(size_t(count), 1);
    const ThreadScratch<T> scratch(threads, count * kTile);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < batch * count; ++i)
            samples[i] = sample_keypoint(features, sampling, read_upstream(keypoints, i / count, i % count, 0),
                                         read_upstream(keypoints, i / count, i % count, 1));
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < batch * chunks; ++task) {
            const int64_t b = task / chunks, first = task % chunks * kTile, last = std::min(first + kTile, channels);
            T* const rows = scratch.mine();
            View part = features;  // starts at channel `first`, so that rows start at 0
            part.data = static_cast<char*>(features.data) + first * features.stride[1] * item_size(features.dtype);
            part.size[1] = last - first;
            gather(part, b, samples.get() + b * count, valid.data(), count, 0, last - first, rows, kTile);
            with_storage(features.dtype, [&](auto* type) {
                auto to = static_cast<decltype(type)>(descriptors) + b * count * channels + first;
                for (int64_t n = 0; n < count; ++n)
                    for (int64_t c = 0; c < last - first; ++c) from_float(rows[n * kTile + c], to + n * channels + c);
            });
        }
    }
}

template <class T>
void gather_all_backward(const View& gradient, const View& features, const View& keypoints, const Sampling& sampling,
                         const View& features_gradient, const View& keypoints_gradient, int wanted_threads) {
    const int64_t batch = features.size[0], channels = features.size[1], count = keypoints.size[1];
    const int threads = threads_for(wanted_threads, double(batch) * double(features.size[2] * features.size[3]) * double(channels));
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(16, channels));
    const std::vector<uint8_t> valid(size_t(count), 1);
    prepare_output(features_gradient);
    Buffer<Sample> samples(count);
    Buffer<T> rows(count * channels);
    std::vector<Scatter> scatter;
    if (features_gradient.data != nullptr) scatter = reserve_scatter(count, sampling);
    for (int64_t b = 0; b < batch; ++b) {
#pragma omp parallel num_threads(threads) if (threads > 1)
        {
#pragma omp for schedule(static)
            for (int64_t n = 0; n < count; ++n) {
                for (int64_t c = 0; c < channels; ++c) rows[n * channels + c] = T(read_upstream(gradient, b, n, c));
                samples[n] = sample_keypoint(features, sampling, read_upstream(keypoints, b, n, 0),
                                             read_upstream(keypoints, b, n, 1));
                if (keypoints_gradient.data == nullptr) continue;
                double x, y;
                keypoint_gradient(features, b, samples[n], rows.get() + n * channels, &x, &y);
                const int64_t at = b * keypoints_gradient.stride[0] + n * keypoints_gradient.stride[1];
                write_element(keypoints_gradient, at, x);
                write_element(keypoints_gradient, at + keypoints_gradient.stride[2], y);
            }
            if (features_gradient.data != nullptr) {
#pragma omp single
                list_scatter(samples.get(), valid.data(), count, scatter);
#pragma omp for schedule(dynamic)
                for (int64_t part = 0; part < parts; ++part)
                    source_backward(features_gradient, b, scatter, rows.get(), channels, part, parts);
            }
        }
    }
}

template <class T>
void similarity_all(const SimilarityProblem& p, T* scores, T* target_norm) {
    const int64_t batch = p.target.size[0], channels = p.target.size[1], height = p.target.size[2], width = p.target.size[3];
    const int64_t cells = height * width, count = p.descriptors.size[3];
    const int threads = threads_for(p.threads, double(batch) * double(cells) * double(channels) * double(count + 4));
    const Kernels<T>& steps = kernels<T>();
    const RowTable table = list_rows(Rows{}, batch, count, height, width);
    const BlockSize most = block_size(batch, count, round_up(channels, kTile) * int64_t(sizeof(T)), p.score_budget);
    QueryBlock<T> block(most, channels);
    const ThreadScratch<T> scratch(threads, similarity_scratch(most.queries));
    for (int64_t b = 0; b < batch; b += most.images) {
        const int64_t images = std::min(most.images, batch - b);
        for (int64_t n0 = 0; n0 == 0 || n0 < count; n0 += most.queries) {
            const int64_t queries = std::min(most.queries, count - n0);
            block.choose(table, count, b, images, n0, queries,
                         [&](int64_t, int64_t n) { return sample_descriptor(p.descriptors, n); });
#pragma omp parallel num_threads(threads) if (threads > 1)
            {
                block.load(images_from(p.descriptors, b), steps);
                similarity_of_block(images_from(p.target, b), block.view(), images, p.metric,
                                    scores + (b * count + n0) * cells, target_norm + b * cells, n0 > 0, steps,
                                    scratch.mine());
            }
            if (queries == 0) break;
        }
    }
}

template <class T>
void similarity_all_backward(const SimilarityProblem& p, const View& gradient, const T* scores, const T* target_norm,
                             const View& descriptors_gradient, const View& target_gradient) {
    const int64_t batch = p.target.size[0], channels = p.target.size[1], height = p.target.size[2], width = p.target.size[3];
    const int64_t cells = height * width, count = p.descriptors.size[3], stride = round_up(channels, kTile);
    const int threads = threads_for(p.threads, double(batch) * double(cells) * double(channels) * double(count + 4));
    const Kernels<T>& steps = kernels<T>();
    const RowTable table = list_rows(Rows{}, batch, count, height, width);
    const int64_t per_query = (cells + tiles_of(cells) * kTile + stride) * int64_t(sizeof(T));
    const BlockSize most = block_size(batch, count, per_query, p.score_budget);
    const bool want_query = descriptors_gradient.data != nullptr;
    prepare_output(target_gradient);
    QueryBlock<T> block(most, channels);
    Buffer<T> dense(most.images * most.queries * cells);
    Buffer<T> query_gradient(want_query ? most.images * most.queries * stride : 0);
    BlockGradients<T> gradients(most, height, width, channels, most.queries < count, target_gradient.data != nullptr);
    const ThreadScratch<T> scratch(threads, gradient_scratch(std::min(channels, kMostChannels)));
    for (int64_t b = 0; b < batch; b += most.images) {
        const int64_t images = std::min(most.images, batch - b);
        for (int64_t n0 = 0; n0 == 0 || n0 < count; n0 += most.queries) {
            const int64_t queries = std::min(most.queries, count - n0);
            block.choose(table, count, b, images, n0, queries,
                         [&](int64_t, int64_t n) { return sample_descriptor(p.descriptors, n); });
            const WindowScores<T> sources{scores + (b * count + n0) * cells, count * cells, cells, width, true};
            const WindowScores<T> results{dense.get(), queries * cells, cells, width, true};
#pragma omp parallel num_threads(threads) if (threads > 1)
            {
                block.load(images_from(p.descriptors, b), steps);
#pragma omp for schedule(static)
                for (int64_t task = 0; task < images * queries; ++task) {
                    const int64_t i = task / queries, n = n0 + task % queries;
                    T* const row = dense.get() + task * cells;
                    const T* const from = contiguous_row(gradient, b + i, n, row);
                    if (from != row) std::copy_n(from, cells, row);
                    const T* const s = scores + ((b + i) * count + n) * cells;
                    double sum = 0, sum_with_score = 0;
                    for (int64_t m = 0; m < cells; ++m) {
                        const bool finite = row[m] - row[m] == 0 && s[m] - s[m] == 0;
                        row[m] = row[m] == 0 || finite ? row[m] : T(__builtin_nan(""));
                        sum += double(row[m]);
                        sum_with_score += row[m] == 0 ? 0.0 : double(row[m]) * double(s[m]);
                    }
                    gradients.box(task) = {0, 0, height, width};
                    gradients.set_query_factor(task, block.view().norm[task], sum, sum_with_score, p.metric);
                }
                block.to_units(p.metric, steps);
                gradients.run(images_from(p.target, b), images_from(target_gradient, b), nullptr, block.view(), images,
                              p.metric, results, sources, target_norm + b * cells,
                              want_query ? query_gradient.get() : nullptr, queries * stride, n0 == 0,
                              n0 + queries == count, steps, threads, scratch.mine());
                if (want_query) {
                    const View& out = descriptors_gradient;
#pragma omp for schedule(static)
                    for (int64_t task = 0; task < images * queries; ++task) {
                        const int64_t at = (b + task / queries) * out.stride[0] + (n0 + task % queries) * out.stride[3];
                        for (int64_t c = 0; c < channels; ++c)
                            write_element(out, at + c * out.stride[1], double(query_gradient[task * stride + c]));
                    }
                }
            }
            if (queries == 0) break;
        }
    }
}

}  // namespace
}  // namespace cpu

void localize(const LocalizeProblem& p, const Matches& matches) {
    if (p.scores.dtype == DType::float64) return cpu::localize_all<double>(p, matches);
    cpu::localize_all<float>(p, matches);
}

void localize_backward(const LocalizeProblem& p, const Matches& matches, const Upstream& upstream,
                       const View& scores_gradient, const View& temperature_gradient) {
    if (p.scores.dtype == DType::float64)
        return cpu::localize_all_backward<double>(p, matches, upstream, scores_gradient, temperature_gradient);
    cpu::localize_all_backward<float>(p, matches, upstream, scores_gradient, temperature_gradient);
}

void gather_keypoints(const View& features, const View& keypoints, const Sampling& sampling, void* descriptors, int threads) {
    if (features.dtype == DType::float64) return cpu::gather_all<double>(features, keypoints, sampling, descriptors, threads);
    cpu::gather_all<float>(features, keypoints, sampling, descriptors, threads);
}

void gather_keypoints_backward(const View& gradient, const View& features, const View& keypoints, const Sampling& sampling,
                               const View& features_gradient, const View& keypoints_gradient, int threads) {
    if (features.dtype == DType::float64)
        return cpu::gather_all_backward<double>(
            gradient, features, keypoints, sampling, features_gradient, keypoints_gradient, threads);
    cpu::gather_all_backward<float>(
        gradient, features, keypoints, sampling, features_gradient, keypoints_gradient, threads);
}

void cosine_similarity(const SimilarityProblem& p, void* scores, void* target_norm) {
    if (p.target.dtype == DType::float64)
        return cpu::similarity_all(p, static_cast<double*>(scores), static_cast<double*>(target_norm));
    cpu::similarity_all(p, static_cast<float*>(scores), static_cast<float*>(target_norm));
}

void cosine_similarity_backward(const SimilarityProblem& p, const View& gradient, const void* scores,
                                const void* target_norm, const View& descriptors_gradient, const View& target_gradient) {
    if (p.target.dtype == DType::float64)
        return cpu::similarity_all_backward(p, gradient, static_cast<const double*>(scores),
                                            static_cast<const double*>(target_norm), descriptors_gradient, target_gradient);
    cpu::similarity_all_backward(p, gradient, static_cast<const float*>(scores), static_cast<const float*>(target_norm),
                                 descriptors_gradient, target_gradient);
}

}  // namespace simplematch

// The steps as operators of their own: localize, gather_keypoints, cosine_similarity.
#include "driver.h"
#include "localization.h"
#include "rows.h"
#include "source_backward.h"

namespace simplematch::cpu {
namespace {

template <class T>
RowWork<T> row_work(const LocalizeProblem& p, const RowTable& table, const StripTable<T>& strip, int64_t b, int64_t n,
                    const T* scores, T* scratch) {
    const int64_t height = p.scores.size[2], width = p.scores.size[3];
    return {height, width, p.localization.window, scores, width,
            table.mask(b, n), table.totals_of(b, n), T(temperature_of(p.temperature, p.localization, b, n)), scratch,
            strip.view(), table.squares_of(b, n)};
}

constexpr int64_t kMostRows = 64;   // of a group
constexpr int64_t kFewestRows = 4;  // of an image, not of a group, on which no result may depend

// Rows [first, last) of image b where they are small maps without restrictions; else no rows.
template <class T>
SmallMaps<T> small_maps(const LocalizeProblem& p, const RowTable& table, const StripTable<T>& strip, int64_t b,
                        int64_t first, int64_t last, const Lines<const T>& lines, T* temperature) {
    const int64_t height = p.scores.size[2], width = p.scores.size[3];
    SmallMaps<T> maps{height, width, 0, lines.first, lines.stride, temperature, strip.view()};
    const bool whole = table.masks.data == nullptr && covers_map(p.localization.window, height, width);
    if (!whole || height * width > kTile || p.scores.size[1] < kFewestRows) return maps;
    maps.rows = last - first;
    for (int64_t n = first; n < last; ++n) temperature[n - first] = T(temperature_of(p.temperature, p.localization, b, n));
    return maps;
}

template <class T>
void localize_all(const LocalizeProblem& p, const Matches& matches, int wanted_threads) {
    const int64_t batch = p.scores.size[0], count = p.scores.size[1], height = p.scores.size[2], width = p.scores.size[3];
    const int threads = threads_for(wanted_threads, double(batch) * double(count) * double(height * width) * 4);
    const Kernels<T>& steps = kernels<T>();
    const RowTable table =
        list_rows(p.rows, batch, count, height, width, outside_of(p.localization, matches.covariance != nullptr));
    const StripTable<T> strip(height, width);
    const RowGroups groups = group_rows<T>(p.scores, is_side_by_side<T>(p.scores), threads);
    const bool details = matches.covariance != nullptr || matches.second_peak != nullptr;
    const ThreadScratch<T> scratch(threads, row_scratch(height, width) + groups.rows * groups.stride);
#pragma omp parallel for schedule(dynamic, groups.together) num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < batch * groups.of_image; ++task) {
        const int64_t b = task / groups.of_image, first = task % groups.of_image * groups.rows;
        const int64_t last = std::min(first + groups.rows, count);
        T* const copy = scratch.mine();
        T* const own = copy + groups.rows * groups.stride;
        const Lines<const T> lines = read_rows<T>(p.scores, b, first, last, copy, groups.stride, steps);
        const AffineMaps from_cells = maps_from_cells(p.localization, b, height, width);
        const double offset = p.localization.output_offset;
        T temperature[kMostRows];
        RowResult results[kMostRows];
        const uint64_t done =
            steps.localize_small(small_maps(p, table, strip, b, first, last, lines, temperature), results);
        for (int64_t n = first; n < last; ++n) {
            const int64_t i = b * count + n;
            if (!table.valid[i]) {
                write_invalid<T>(matches, i);
                continue;
            }
            const T* const row = lines.first + (n - first) * lines.stride;
            const bool found = done >> (n - first) & 1;
            if (!found) results[n - first] = steps.localize(row_work(p, table, strip, b, n, row, own));
            write_match<T>(matches, i, results[n - first], from_cells, offset);
            if (details)
                write_details<T>(matches, i, row_work(p, table, strip, b, n, row, own), results[n - first].peak, p.localization,
                                 from_cells, steps);
        }
    }
}

template <class T>
struct LocalizeBackward {
    const LocalizeProblem& p;
    const Matches& matches;
    const Upstream& upstream;
    const LocalizeGradients& wanted;
    const RowTable table;
    const StripTable<T> strip;

    // Rows [first, last) of image b where they are small maps; bit i says that row first + i is written.
    uint64_t run_small(int64_t b, int64_t first, int64_t last, const Lines<const T>& from, const Lines<T>& to) const {
        if (is_given(wanted.temperature) || is_given(upstream.covariance)) return 0;
        T temperature[kMostRows];
        const SmallMaps<T> maps = small_maps(p, table, strip, b, first, last, from, temperature);
        if (maps.rows == 0) return 0;
        RowGradient<T> gradients[kMostRows];
        const AffineMaps from_cells = maps_from_cells(p.localization, b, p.scores.size[2], p.scores.size[3]);
        for (int64_t k = 0; k < maps.rows; ++k) {
            const int64_t n = first + k, i = b * p.scores.size[1] + n;
            gradients[k] = upstream_of_row<T>(upstream, matches, p.scores.size[1], from_cells, b, n);
            gradients[k].peak = table.valid[i] ? matches.peak[i] : -1;
            gradients[k].scores = to.first + k * to.stride;
        }
        return kernels<T>().localize_small_backward(maps, gradients);
    }

    // Row (b, n) of the gradient, to `result`.
    void run(int64_t b, int64_t n, const T* scores, T* result, T* scratch) const {
        const int64_t height = p.scores.size[2], width = p.scores.size[3], i = b * p.scores.size[1] + n;
        if (!table.valid[i]) {
            std::fill(result, result + height * width, T(0));
            return write_row_gradient(wanted.temperature, b, n, 0);
        }
        RowGradient<T> gradient = upstream_of_row<T>(
            upstream, matches, p.scores.size[1], maps_from_cells(p.localization, b, height, width), b, n);
        gradient.peak = matches.peak[i];
        gradient.only_scores = !is_given(wanted.temperature);
        const Box box = window_box(p.localization.window, gradient.peak, height, width);
        if ((box.bottom - box.top) * (box.right - box.left) < height * width)
            std::fill(result, result + height * width, T(0));
        const int64_t first = box.top * width + box.left;
        gradient.scores = result + first;
        gradient.stride = width;
        kernels<T>().localize_backward(row_work(p, table, strip, b, n, scores + first, scratch), gradient);
        write_row_gradient(wanted.temperature, b, n, gradient.temperature);
    }
};

template <class T>
void localize_all_backward(const LocalizeProblem& p, const Matches& matches, const Upstream& upstream,
                           const LocalizeGradients& wanted, int wanted_threads) {
    const int64_t batch = p.scores.size[0], count = p.scores.size[1], height = p.scores.size[2], width = p.scores.size[3];
    const int threads = threads_for(wanted_threads, double(batch) * double(count) * double(height * width) * 4);
    const Kernels<T>& steps = kernels<T>();
    const LocalizeBackward<T> rows{p, matches, upstream, wanted,
                                   list_rows(p.rows, batch, count, height, width,
                                             outside_of(p.localization, is_given(upstream.covariance))),
                                   StripTable<T>(height, width)};
    const bool side_by_side = is_side_by_side<T>(p.scores) || is_side_by_side<T>(wanted.scores);
    const RowGroups groups = group_rows<T>(p.scores, side_by_side, threads);
    const int64_t numbers = groups.rows * groups.stride;
    const ThreadScratch<T> scratch(threads, row_scratch(height, width) + 2 * numbers);
    prepare_output(wanted.scores);
#pragma omp parallel for schedule(dynamic, groups.together) num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < batch * groups.of_image; ++task) {
        const int64_t b = task / groups.of_image, first = task % groups.of_image * groups.rows;
        const int64_t last = std::min(first + groups.rows, count);
        T* const copy = scratch.mine();
        const Lines<const T> from = read_rows<T>(p.scores, b, first, last, copy, groups.stride, steps);
        const Lines<T> to = lines_to_write<T>(wanted.scores, b, first, copy + numbers, groups.stride);
        const uint64_t done = rows.run_small(b, first, last, from, to);
        for (int64_t n = first; n < last; ++n)
            if ((done >> (n - first) & 1) == 0)
                rows.run(b, n, from.first + (n - first) * from.stride, to.first + (n - first) * to.stride,
                         copy + 2 * numbers);
        if (to.first == copy + numbers && is_given(wanted.scores)) write_rows<T>(wanted.scores, b, first, last, to, steps);
    }
}

template <class T>
void gather_all(const GatherProblem& p, const GatherResult& result, int wanted_threads) {
    const View& features = p.features;
    const int64_t batch = features.size[0], channels = features.size[1], count = p.keypoints.size[1];
    const int threads = threads_for(wanted_threads, double(batch) * double(count) * double(channels) * 4);
    const int64_t chunks = (channels + kTile - 1) / kTile;
    Buffer<Sample> samples(batch * count);
    const std::vector<uint8_t> valid(size_t(count), 1);
    const bool in_place = is_stored_as<T>(features);  // the descriptors are of the same type
    const ThreadScratch<T> scratch(threads, in_place ? 0 : count * kTile);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < batch * count; ++i)
            samples[i] = sample_query(features, p.keypoints, p.sampling, i / count, i % count);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < batch * chunks; ++task) {
            const int64_t b = task / chunks, first = task % chunks * kTile, last = std::min(first + kTile, channels);
            View part = features;  // starts at channel `first`, so that rows start at 0
            part.data = static_cast<char*>(features.data) + first * features.stride[1] * item_size(features.dtype);
            part.size[1] = last - first;
            const Sample* const of_image = samples.get() + b * count;
            if (in_place) {
                T* const rows = static_cast<T*>(result.descriptors) + b * count * channels + first;
                gather(part, b, of_image, valid.data(), count, 0, last - first, rows, channels);
                continue;
            }
            T* const rows = scratch.mine();
            gather(part, b, of_image, valid.data(), count, 0, last - first, rows, kTile);
            with_storage(features.dtype, [&](auto* type) {
                auto to = static_cast<decltype(type)>(result.descriptors) + b * count * channels + first;
                for (int64_t n = 0; n < count; ++n)
                    for (int64_t c = 0; c < last - first; ++c) from_float(rows[n * kTile + c], to + n * channels + c);
            });
        }
    }
}

// Row n of image b of vectors (B, N, C); zeros if they are not given.
template <class T>
void read_vector(const View& vectors, int64_t b, int64_t n, int64_t channels, T* to) {
    if (!is_given(vectors)) return void(std::fill_n(to, channels, T(0)));
    with_storage(vectors.dtype, [&](auto* type) {
        auto from = static_cast<decltype(type)>(vectors.data) + b * vectors.stride[0] + n * vectors.stride[1];
        for (int64_t c = 0; c < channels; ++c) to[c] = T(to_float(from[c * vectors.stride[2]]));
    });
}

template <class T>
void gather_all_backward(const GatherProblem& p, const GatherUpstream& upstream, const GatherGradients& wanted,
                         int wanted_threads) {
    const View& features = p.features;
    const int64_t batch = features.size[0], channels = features.size[1], count = p.keypoints.size[1];
    const int threads = threads_for(wanted_threads, double(batch) * double(cells_of(features)) * double(channels));
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(16, channels));
    const std::vector<uint8_t> valid(size_t(count), 1);
    prepare_output(wanted.features);
    Buffer<Sample> samples(count);
    Buffer<T> rows(count * channels);
    std::vector<Scatter> scatter;
    if (is_given(wanted.features)) scatter = reserve_scatter(count, p.sampling);
    for (int64_t b = 0; b < batch; ++b) {
#pragma omp parallel num_threads(threads) if (threads > 1)
        {
#pragma omp for schedule(static)
            for (int64_t n = 0; n < count; ++n) {
                read_vector(upstream.descriptors, b, n, channels, rows.get() + n * channels);
                samples[n] = sample_query(features, p.keypoints, p.sampling, b, n);
                if (!is_given(wanted.keypoints)) continue;
                double x, y;
                keypoint_gradient(features, b, samples[n], rows.get() + n * channels, &x, &y);
                const int64_t at = b * wanted.keypoints.stride[0] + n * wanted.keypoints.stride[1];
                write_element(wanted.keypoints, at, x);
                write_element(wanted.keypoints, at + wanted.keypoints.stride[2], y);
            }
            if (is_given(wanted.features)) {
#pragma omp single
                list_scatter(samples.get(), valid.data(), count, scatter);
                // Static: two threads that first touch the same huge page at one time would both have it cleared.
#pragma omp for schedule(static)
                for (int64_t part = 0; part < parts; ++part)
                    source_backward(wanted.features, b, scatter, rows.get(), channels, part, parts);
            }
        }
    }
}

template <class T>
void similarity_all(const SimilarityProblem& p, const SimilarityResult& result, int wanted_threads) {
    T* const scores = static_cast<T*>(result.scores);
    T* const target_norm = static_cast<T*>(result.target_norm);
    const int64_t batch = p.target.size[0], channels = p.target.size[1], height = p.target.size[2], width = p.target.size[3];
    const int64_t cells = height * width, count = p.descriptors.size[3];
    const int threads = threads_for(wanted_threads, double(batch) * double(cells) * double(channels) * double(count + 4));
    const Kernels<T>& steps = kernels<T>();
    const RowTable table = list_rows(kAllRows, batch, count, height, width, Outside::nothing);
    const BlockSize most = block_size(batch, count, round_up(channels, kTile) * int64_t(sizeof(T)), p.score_budget);
    QueryBlock<T> block(most, channels);
    const ThreadScratch<T> scratch(threads, similarity_scratch(most.queries, channels));
    const View output{scores, arithmetic_of(p.target.dtype), {batch, count, height, width}, {count * cells, cells, width, 1}};
    prepare_output(output);
    const bool past_cache = is_large(output);
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
                                    scratch.mine(), nullptr, nullptr, past_cache);
            }
            if (queries == 0) break;
        }
    }
}

template <class T>
void similarity_all_backward(const SimilarityProblem& p, const SimilarityResult& forward,
                             const SimilarityUpstream& upstream, const SimilarityGradients& wanted, int wanted_threads) {
    const T* const scores = static_cast<const T*>(forward.scores);
    const T* const target_norm = static_cast<const T*>(forward.target_norm);
    const int64_t batch = p.target.size[0], channels = p.target.size[1], height = p.target.size[2], width = p.target.size[3];
    const int64_t cells = height * width, count = p.descriptors.size[3], stride = round_up(channels, kTile);
    const int threads = threads_for(wanted_threads, double(batch) * double(cells) * double(channels) * double(count + 4));
    const Kernels<T>& steps = kernels<T>();
    const RowTable table = list_rows(kAllRows, batch, count, height, width, Outside::nothing);
    const int64_t per_query = (cells + tiles_of(cells) * kTile + stride) * int64_t(sizeof(T));
    const BlockSize most = block_size(batch, count, per_query, std::min(p.score_budget, kGradientsInCache));
    const bool want_query = is_given(wanted.descriptors);
    prepare_output(wanted.target);
    QueryBlock<T> block(most, channels);
    Buffer<T> dense(most.images * most.queries * cells);
    std::vector<RowSums> sums(size_t(most.images * most.queries));
    // Rows of the gradients that arrive are read where they lie, if they lie in rows and all of them are numbers.
    const View& arrives = upstream.scores;
    const bool has_rows = batch > 0 && count > 0 && row_in_place<T>(arrives, 0, 0) != nullptr;
    const WindowScores<T> in_place{static_cast<const T*>(arrives.data), arrives.stride[0], arrives.stride[1], width, true};
    Buffer<T> query_gradient(want_query ? most.images * most.queries * stride : 0);
    BlockGradients<T> gradients(most, height, width, channels, most.queries < count, is_given(wanted.target));
    const ThreadScratch<T> scratch(threads, gradient_scratch(std::min(channels, kMostChannels)));
    for (int64_t b = 0; b < batch; b += most.images) {
        const int64_t images = std::min(most.images, batch - b);
        for (int64_t n0 = 0; n0 == 0 || n0 < count; n0 += most.queries) {
            const int64_t queries = std::min(most.queries, count - n0);
            block.choose(table, count, b, images, n0, queries,
                         [&](int64_t, int64_t n) { return sample_descriptor(p.descriptors, n); });
            const WindowScores<T> sources{scores + (b * count + n0) * cells, count * cells, cells, width, true};
            WindowScores<T> arriving = in_place;
            if (has_rows) arriving.data += b * in_place.image_stride + n0 * in_place.query_stride;
            bool read_in_place = false;
#pragma omp parallel num_threads(threads) if (threads > 1)
            {
                block.load(images_from(p.descriptors, b), steps);
#pragma omp for schedule(static)
                for (int64_t task = 0; task < images * queries; ++task) {
                    const int64_t i = task / queries, n = task % queries;
                    const T* const s = sources.data + i * sources.image_stride + n * sources.query_stride;
                    if (has_rows) {
                        const T* const row = arriving.data + i * arriving.image_stride + n * arriving.query_stride;
                        sums[size_t(task)] = steps.sum_row(row, s, cells);
                    }
                    gradients.box(task) = {0, 0, height, width};
                }
#pragma omp single
                read_in_place = has_rows && std::all_of(sums.begin(), sums.begin() + images * queries,
                                                     [](const RowSums& x) { return x.finite; });
                const WindowScores<T> results =
                    read_in_place ? arriving : WindowScores<T>{dense.get(), queries * cells, cells, width, true};
#pragma omp for schedule(static)
                for (int64_t task = 0; task < images * queries; ++task) {
                    const int64_t i = task / queries, n = task % queries;
                    if (!read_in_place) {
                        const T* const s = sources.data + i * sources.image_stride + n * sources.query_stride;
                        T* const row = dense.get() + task * cells;
                        const T* const from = contiguous_row(upstream.scores, b + i, n0 + n, row);
                        steps.copy_row(from, s, cells, row);
                        sums[size_t(task)] = steps.sum_row(row, s, cells);
                    }
                    gradients.set_query_own(task, block.view().norm[task], sums[size_t(task)].sum,
                                            sums[size_t(task)].with_score, p.metric);
                }
                block.to_units(p.metric, steps);
                const BlockTerms<T> terms{images_from(p.target, b), images_from(wanted.target, b), block.view(),
                                          images, results, sources, target_norm + b * cells,
                                          want_query ? query_gradient.get() : nullptr, queries * stride, n0 == 0,
                                          n0 + queries == count};
                gradients.run(terms, p.metric, steps, threads, scratch.mine());
                if (want_query) {
                    const View& out = wanted.descriptors;
#pragma omp for schedule(static)
                    for (int64_t task = 0; task < images * queries; ++task) {
                        const int64_t at = (b + task / queries) * out.stride[0] + (n0 + task % queries) * out.stride[3];
                        with_storage(out.dtype, [&](auto* type) {
                            auto to = static_cast<decltype(type)>(out.data) + at;
                            for (int64_t c = 0; c < channels; ++c)
                                from_float(query_gradient[task * stride + c], to + c * out.stride[1]);
                        });
                    }
                }
            }
            if (queries == 0) break;
        }
    }
}

}  // namespace

void run(const LocalizeProblem& problem, const Matches& result, int threads) {
    if (problem.scores.dtype == SIMPLEMATCH_FLOAT64) return localize_all<double>(problem, result, threads);
    localize_all<float>(problem, result, threads);
}

void run_backward(const LocalizeProblem& problem, const Matches& forward, const Upstream& upstream,
                  const LocalizeGradients& gradients, int threads) {
    if (problem.scores.dtype == SIMPLEMATCH_FLOAT64)
        return localize_all_backward<double>(problem, forward, upstream, gradients, threads);
    localize_all_backward<float>(problem, forward, upstream, gradients, threads);
}

void run(const GatherProblem& problem, const GatherResult& result, int threads) {
    if (problem.features.dtype == SIMPLEMATCH_FLOAT64) return gather_all<double>(problem, result, threads);
    gather_all<float>(problem, result, threads);
}

void run_backward(const GatherProblem& problem, const GatherUpstream& upstream, const GatherGradients& gradients,
                  int threads) {
    if (problem.features.dtype == SIMPLEMATCH_FLOAT64)
        return gather_all_backward<double>(problem, upstream, gradients, threads);
    gather_all_backward<float>(problem, upstream, gradients, threads);
}

void run(const SimilarityProblem& problem, const SimilarityResult& result, int threads) {
    if (problem.target.dtype == SIMPLEMATCH_FLOAT64) return similarity_all<double>(problem, result, threads);
    similarity_all<float>(problem, result, threads);
}

void run_backward(const SimilarityProblem& problem, const SimilarityResult& forward, const SimilarityUpstream& upstream,
                  const SimilarityGradients& gradients, int threads) {
    if (problem.target.dtype == SIMPLEMATCH_FLOAT64)
        return similarity_all_backward<double>(problem, forward, upstream, gradients, threads);
    similarity_all_backward<float>(problem, forward, upstream, gradients, threads);
}

}  // namespace simplematch::cpu

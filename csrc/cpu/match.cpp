// sparse_window_match: gather, similarity, localize (paper eq. 6-12), block by block of queries.
#include <cstring>

#include "driver.h"
#include "localization.h"
#include "sparse_match_cross_entropy.h"

namespace simplematch::cpu {

// The scores of a block are read right after they are written: more of them would go to memory and back. No result of the
// forward depends on the blocks.
constexpr int64_t kScoresInCache = 16 << 20;

template <class T>
void match_forward(const MatchProblem& p, const MatchResult& result, const Losses* losses, int wanted_threads) {
    const View& target = p.target;
    const int64_t batch = target.size[0], channels = target.size[1], height = target.size[2], width = target.size[3];
    const int64_t cells = height * width;
    const int64_t count = queries_of(p);
    const int threads = threads_for(wanted_threads, double(batch) * double(cells) * double(channels) * double(count + 4));
    const Kernels<T>& steps = kernels<T>();

    const RowTable table = list_rows(p.rows, batch, count, height, width,
                                     outside_of(p.localization, result.matches.covariance != nullptr));
    const int64_t bytes_per_query = (cells + round_up(channels, kTile)) * int64_t(sizeof(T));
    const BlockSize most = block_size(batch, count, bytes_per_query, std::min(p.score_budget, kScoresInCache));
    QueryBlock<T> block(most, channels);
    Buffer<T> scores(most.images * most.queries * cells);
    const ThreadScratch<T> scratch(threads, std::max(similarity_scratch(most.queries, channels), row_scratch(height, width)));
    T* const target_norm = static_cast<T*>(result.target_norm);
    const int64_t columns = box_columns(p.localization.window, width);
    const int64_t box_size = box_rows(p.localization.window, height) * columns;

    for (int64_t b = 0; b < batch; b += most.images) {
        const int64_t images = std::min(most.images, batch - b);
        for (int64_t n0 = 0; n0 == 0 || n0 < count; n0 += most.queries) {
            const int64_t queries = std::min(most.queries, count - n0);
            block.choose(table, count, b, images, n0, queries,
                         [&](int64_t image, int64_t n) {
                             return sample_query(p.source, p.keypoints, p.sampling, image, n);
                         });
#pragma omp parallel num_threads(threads) if (threads > 1)
            {
                T* const mine = scratch.mine();
                block.load(images_from(p.source, b), steps);
                similarity_of_block(images_from(target, b), block.view(), images, p.metric, scores.get(),
                                    target_norm + b * cells, n0 > 0, steps, mine);
#pragma omp for schedule(dynamic, 4)
                for (int64_t task = 0; task < images * queries; ++task) {
                    const int64_t image = b + task / queries, n = n0 + task % queries;
                    const bool keep = n < p.kept_queries;
                    T* const kept = keep ? static_cast<T*>(result.window_scores) + (image * p.kept_queries + n) * box_size
                                         : nullptr;
                    if (!block.valid(task / queries, task % queries)) {
                        if (losses != nullptr) {
                            static_cast<T*>(losses->result.loss)[image * count + n] = T(0);
                            losses->result.cell[image * count + n] = -1;
                            continue;
                        }
                        write_invalid<T>(result.matches, image * count + n);
                        if (keep) std::fill(kept, kept + box_size, T(0));
                        continue;
                    }
                    const T* const row = scores.get() + task * cells;
                    const RowWork<T> work{height, width, p.localization.window, row, width,
                                          table.mask(image, n), table.totals_of(image, n),
                                          T(temperature_of(p.temperature, p.localization, image, n)), mine, {},
                                          table.squares_of(image, n)};
                    const RowResult match = steps.localize(work);
                    if (losses != nullptr) {
                        losses->of.write_loss(work, match.log_sum_exp, image, n, losses->result);
                        continue;
                    }
                    const AffineMaps from_cells = maps_from_cells(p.localization, image, height, width);
                    const int64_t i = image * count + n;
                    write_match<T>(result.matches, i, match, from_cells, p.localization.output_offset);
                    write_details<T>(result.matches, i, work, match.peak, p.localization, from_cells, steps);
                    if (keep) keep_window(row, width, window_box(p.localization.window, match.peak, height, width), kept,
                                          box_size, columns);
                }
            }
            if (queries == 0) break;
        }
    }
}

template void match_forward<float>(const MatchProblem&, const MatchResult&, const Losses*, int);
template void match_forward<double>(const MatchProblem&, const MatchResult&, const Losses*, int);

void run(const MatchProblem& problem, const MatchResult& result, int threads) {
    if (problem.target.dtype == SIMPLEMATCH_FLOAT64) return match_forward<double>(problem, result, nullptr, threads);
    match_forward<float>(problem, result, nullptr, threads);
}

}  // namespace simplematch::cpu

// neighbour_products: a few cells of one image are a task.
#include "driver.h"

namespace simplematch::cpu {
namespace {

// Calls step(b, first cell, scratch) for all cells of all images.
template <class T, class Step>
void for_each_task(const View& features, int wanted_threads, int64_t scratch_numbers, Step&& step) {
    const int64_t batch = features.size[0], cells = cells_of(features);
    const int64_t tasks = (cells + kNeighbourCells - 1) / kNeighbourCells;
    const int threads = threads_for(wanted_threads, double(batch) * double(cells) * double(features.size[1]) * 5);
    const ThreadScratch<T> scratch(threads, scratch_numbers);
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < batch * tasks; ++task)
        step(task / tasks, task % tasks * kNeighbourCells, scratch.mine());
}

template <class T>
void products_all(const NeighbourProblem& p, const NeighbourResult& result, int threads) {
    for_each_task<T>(p.features, threads, 2 * kNeighbourChannels * kTile, [&](int64_t b, int64_t first, T* scratch) {
        kernels<T>().neighbour_products(p.features, b, first, result.products + b * 5 * cells_of(p.features), scratch);
    });
}

template <class T>
void products_all_backward(const NeighbourProblem& p, const NeighbourUpstream& upstream,
                           const NeighbourGradients& wanted, int threads) {
    if (!is_given(wanted.features)) return;
    prepare_output(wanted.features);
    for_each_task<T>(p.features, threads, 4 * kNeighbourChannels * kTile, [&](int64_t b, int64_t first, T* scratch) {
        const double* const arriving = upstream.products + b * 5 * cells_of(p.features);
        kernels<T>().neighbour_products_backward(p.features, arriving, wanted.features, b, first, scratch);
    });
}

}  // namespace

void run(const NeighbourProblem& p, const NeighbourResult& result, int threads) {
    if (p.features.dtype == SIMPLEMATCH_FLOAT64) return products_all<double>(p, result, threads);
    products_all<float>(p, result, threads);
}

void run_backward(const NeighbourProblem& p, const NeighbourUpstream& upstream, const NeighbourGradients& gradients,
                  int threads) {
    if (p.features.dtype == SIMPLEMATCH_FLOAT64) return products_all_backward<double>(p, upstream, gradients, threads);
    products_all_backward<float>(p, upstream, gradients, threads);
}

}  // namespace simplematch::cpu

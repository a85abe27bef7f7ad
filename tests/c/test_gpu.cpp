// Every operator answers the same on a GPU, here an emulated one, as on the CPU.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "fixture.h"
#include "simplematch/simplematch.hpp"

namespace {

using simplematch::check;

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

// Calls `run` on the fixture's device, with the workspace that `query` asks for.
template <class Query, class Run>
void on_device(fixture& f, Query&& query, Run&& run) {
    int64_t bytes = 0;
    check(query(&f.device, &bytes));
    const std::unique_ptr<void, Free> workspace(bytes > 0 ? std::aligned_alloc(256, size_t(bytes + 255) / 256 * 256) : nullptr);
    f.device.workspace = workspace.get();
    f.device.workspace_bytes = bytes;
    check(run(&f.device));
}

void run_match(fixture& f) {
    on_device(f, [&](auto* d, auto* n) { return simplematch_sparse_window_match_workspace(&f.match, d, n); },
              [&](auto* d) { return simplematch_sparse_window_match(&f.match, &f.result, d); });
    on_device(f, [&](auto* d, auto* n) { return simplematch_sparse_window_match_backward_workspace(&f.match, &f.gradients, d, n); },
              [&](auto* d) { return simplematch_sparse_window_match_backward(&f.match, &f.result, &f.upstream, &f.gradients, d); });
}

void run_localize(fixture& f) {
    on_device(f, [&](auto* d, auto* n) { return simplematch_localize_workspace(&f.localize, d, n); },
              [&](auto* d) { return simplematch_localize(&f.localize, &f.result.matches, d); });
    on_device(f, [&](auto* d, auto* n) { return simplematch_localize_backward_workspace(&f.localize, &f.localize_gradients, d, n); },
              [&](auto* d) {
                  return simplematch_localize_backward(&f.localize, &f.result.matches, &f.upstream, &f.localize_gradients, d);
              });
}

void run_gather(fixture& f) {
    on_device(f, [&](auto* d, auto* n) { return simplematch_gather_keypoints_workspace(&f.gather, d, n); },
              [&](auto* d) { return simplematch_gather_keypoints(&f.gather, &f.gather_result, d); });
    on_device(f, [&](auto* d, auto* n) { return simplematch_gather_keypoints_backward_workspace(&f.gather, &f.gather_gradients, d, n); },
              [&](auto* d) {
                  return simplematch_gather_keypoints_backward(&f.gather, &f.gather_upstream, &f.gather_gradients, d);
              });
}

void run_similarity(fixture& f) {
    on_device(f, [&](auto* d, auto* n) { return simplematch_cosine_similarity_workspace(&f.similarity, d, n); },
              [&](auto* d) { return simplematch_cosine_similarity(&f.similarity, &f.similarity_result, d); });
    on_device(f, [&](auto* d, auto* n) { return simplematch_cosine_similarity_backward_workspace(&f.similarity, &f.similarity_gradients, d, n); },
              [&](auto* d) {
                  return simplematch_cosine_similarity_backward(&f.similarity, &f.similarity_result, &f.similarity_upstream,
                                                                &f.similarity_gradients, d);
              });
}

void run_cross_entropy(fixture& f) {
    on_device(f, [&](auto* d, auto* n) { return simplematch_sparse_match_cross_entropy_workspace(&f.entropy, d, n); },
              [&](auto* d) { return simplematch_sparse_match_cross_entropy(&f.entropy, &f.entropy_result, d); });
    on_device(f, [&](auto* d, auto* n) { return simplematch_sparse_match_cross_entropy_backward_workspace(&f.entropy, &f.gradients, d, n); },
              [&](auto* d) {
                  return simplematch_sparse_match_cross_entropy_backward(&f.entropy, &f.entropy_result, &f.entropy_upstream,
                                                                         &f.gradients, d);
              });
}

void run_pairs(fixture& f) {
    on_device(f, [&](auto* d, auto* n) { return simplematch_pair_scores_workspace(&f.pairs, d, n); },
              [&](auto* d) { return simplematch_pair_scores(&f.pairs, &f.pairs_result, d); });
    on_device(f, [&](auto* d, auto* n) { return simplematch_pair_scores_backward_workspace(&f.pairs, &f.pairs_gradients, d, n); },
              [&](auto* d) {
                  return simplematch_pair_scores_backward(&f.pairs, &f.pairs_result, &f.pairs_upstream, &f.pairs_gradients, d);
              });
}

// How many of the numbers from `first` on to before `end`, offsets in the outputs, differ.
int count_different(const outputs& a, const outputs& b, size_t first, size_t end) {
    const auto* x = reinterpret_cast<const float*>(reinterpret_cast<const char*>(&a) + first);
    const auto* y = reinterpret_cast<const float*>(reinterpret_cast<const char*>(&b) + first);
    int different = 0;
    for (size_t i = 0; i < (end - first) / sizeof(float); ++i)
        different += !(std::fabs(x[i] - y[i]) <= 1e-5f * std::max(1.0f, std::fabs(y[i])));
    return different;
}

bool agree(const char* name, void (*run)(fixture&)) {
    const auto cpu = std::make_unique<fixture>(), gpu = std::make_unique<fixture>();
    set_up(cpu.get());
    set_up(gpu.get());
    gpu->device.kind = SIMPLEMATCH_CUDA;
    run(*cpu);
    run(*gpu);
    const size_t peak = offsetof(outputs, peak), after = offsetof(outputs, cell) + sizeof cpu->out.cell;
    const int different = count_different(gpu->out, cpu->out, 0, peak) +
                          count_different(gpu->out, cpu->out, after, sizeof(outputs)) +
                          !std::equal(gpu->out.cell[0], gpu->out.cell[0] + B * N, cpu->out.cell[0]) +
                          !std::equal(gpu->out.peak[0], gpu->out.peak[0] + B * N, cpu->out.peak[0]) +
                          !std::equal(gpu->out.second_peak[0], gpu->out.second_peak[0] + B * N, cpu->out.second_peak[0]);
    const outputs untouched{};
    const bool wrote = count_different(cpu->out, untouched, 0, sizeof(outputs)) > 0;
    std::printf("%s: %d numbers differ%s\n", name, different, wrote ? "" : ", and nothing was written");
    return different == 0 && wrote;
}

}  // namespace

int main() {
    bool good = agree("sparse_window_match", run_match);
    good &= agree("localize", run_localize);
    good &= agree("gather_keypoints", run_gather);
    good &= agree("cosine_similarity", run_similarity);
    good &= agree("sparse_match_cross_entropy", run_cross_entropy);
    good &= agree("pair_scores", run_pairs);
    return good ? 0 : 1;
}

// Each allocation of each operator fails once: the call says so by its status, and ends nothing else.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "fixture.h"

namespace {

long left = -1;  // allocations until one fails; below 0: none will

bool fails() { return left >= 0 && left-- == 0; }

}  // namespace

// In place of aligned_alloc, by an option of the linker.
extern "C" void* __real_aligned_alloc(size_t alignment, size_t bytes);
extern "C" void* __wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return fails() ? nullptr : __real_aligned_alloc(alignment, bytes);
}

// Not inlined: GCC would see malloc where it looks for operator new.
__attribute__((noinline)) void* operator new(size_t bytes) {
    void* const memory = fails() ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
__attribute__((noinline)) void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
    return std::malloc(bytes);  // who asks so can do without, so none fails
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, size_t) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace {

int failures = 0;

template <class Call>
void check(const char* name, Call&& call) {
    long failed = 0;
    for (;; ++failed) {
        left = failed;
        const simplematch_status status = call();
        const bool one_failed = left < 0;
        left = -1;
        if (!one_failed && status == SIMPLEMATCH_OK) break;
        const char* const message = simplematch_error_message();
        if (status == SIMPLEMATCH_OUT_OF_MEMORY && std::strstr(message, "not enough memory") != nullptr) continue;
        std::fprintf(stderr, "%s: status %d (\"%s\") when allocation %ld failed\n", name, int(status), message, failed);
        ++failures;
        return;
    }
    if (failed == 0) std::fprintf(stderr, "%s: nothing was allocated\n", name), ++failures;
    std::printf("%s: %ld allocations failed\n", name, failed);
}

// Forward and backward, which reads what the forward left when nothing failed.
template <class Forward, class Backward>
void check_both(const char* name, Forward&& forward, Backward&& backward) {
    check(name, forward);
    check((std::string(name) + "_backward").c_str(), backward);
}

void check_match(fixture& f) {
    check_both("sparse_window_match", [&] { return simplematch_sparse_window_match(&f.match, &f.result, &f.device); }, [&] {
        return simplematch_sparse_window_match_backward(&f.match, &f.result, &f.upstream, &f.gradients, &f.device);
    });
    check_both("sparse_match_cross_entropy",
               [&] { return simplematch_sparse_match_cross_entropy(&f.entropy, &f.entropy_result, &f.device); }, [&] {
                   return simplematch_sparse_match_cross_entropy_backward(&f.entropy, &f.entropy_result, &f.entropy_upstream,
                                                                          &f.gradients, &f.device);
               });
}

void check_steps(fixture& f) {
    check_both("localize", [&] { return simplematch_localize(&f.localize, &f.result.matches, &f.device); }, [&] {
        return simplematch_localize_backward(&f.localize, &f.result.matches, &f.upstream, &f.localize_gradients, &f.device);
    });
    check_both("gather_keypoints", [&] { return simplematch_gather_keypoints(&f.gather, &f.gather_result, &f.device); }, [&] {
        return simplematch_gather_keypoints_backward(&f.gather, &f.gather_upstream, &f.gather_gradients, &f.device);
    });
    check_both("cosine_similarity",
               [&] { return simplematch_cosine_similarity(&f.similarity, &f.similarity_result, &f.device); }, [&] {
                   return simplematch_cosine_similarity_backward(&f.similarity, &f.similarity_result, &f.similarity_upstream,
                                                                 &f.similarity_gradients, &f.device);
               });
}

void check_match_all(fixture& f, const char* name) {
    check_both(name, [&] { return simplematch_match_all(&f.match_all, &f.match_all_result, &f.device); }, [&] {
        return simplematch_match_all_backward(&f.match_all, &f.match_all_result, &f.match_all_upstream, &f.match_all_gradients,
                                              &f.device);
    });
}

void check_upsampled(fixture& f, const char* name) {
    check_both(name, [&] { return simplematch_localize_upsampled(&f.upsampled, &f.upsampled_result, &f.device); }, [&] {
        return simplematch_localize_upsampled_backward(&f.upsampled, &f.upsampled_result, &f.upsampled_upstream,
                                                       &f.upsampled_gradients, &f.device);
    });
}

void check_correlation(fixture& f, const char* name) {
    check_both(name, [&] { return simplematch_local_correlation(&f.correlation, &f.correlation_result, &f.device); }, [&] {
        return simplematch_local_correlation_backward(&f.correlation, &f.correlation_upstream, &f.correlation_gradients,
                                                      &f.device);
    });
}

}  // namespace

int main() {
    const auto owner = std::make_unique<fixture>();
    fixture& f = *owner;
    set_up(&f);
    check_match(f);
    check_steps(f);
    check_both("neighbour_products",
               [&] { return simplematch_neighbour_products(&f.neighbours, &f.neighbours_result, &f.device); }, [&] {
                   return simplematch_neighbour_products_backward(&f.neighbours, &f.neighbours_upstream, &f.neighbours_gradients,
                                                                  &f.device);
               });

    check_match_all(f, "match_all");
    f.num_keypoints[1] = 2;  // padding, and distances that are computed one by one
    f.descriptors[0][0][0][1] = f.target[1][2][3][4] = INFINITY;
    f.match_all.metric.kind = SIMPLEMATCH_L2;
    check_match_all(f, "match_all of distances");

    set_up(&f);
    check_both("pair_scores", [&] { return simplematch_pair_scores(&f.pairs, &f.pairs_result, &f.device); }, [&] {
        return simplematch_pair_scores_backward(&f.pairs, &f.pairs_result, &f.pairs_upstream, &f.pairs_gradients, &f.device);
    });
    check_upsampled(f, "localize_upsampled");
    f.upsampled.metric.kind = SIMPLEMATCH_L2;
    check_upsampled(f, "localize_upsampled of distances");

    check_correlation(f, "local_correlation");
    static float far[B][9][2] = {{{0, 0}, {30, 1}, {-40, 2}}, {{1, 50}}};
    f.correlation.offsets = simplematch_contiguous(far, SIMPLEMATCH_FLOAT32, B, 9, 2, 1);
    check_correlation(f, "local_correlation at offsets");
    if (failures == 0) std::printf("every failed allocation was reported\n");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// What the calls of all operators share: memory for their records, and the verdict on what came of a call.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "draw.h"

namespace {

// More threads than a small machine wants to start a million times.
void bound_threads(simplematch_device& device) {
    if (device.threads == 0 || (device.threads > 2 && device.threads <= 1024)) device.threads = 2;
}

// Of a map that a call may really have.
int64_t cells_of(int64_t height, int64_t width) {
    constexpr int64_t most = 1 << 14;
    return height < 1 || width < 1 || height > most || width > most ? 1 : height * width;
}

int64_t item_of(int32_t arithmetic) { return arithmetic == SIMPLEMATCH_FLOAT64 ? 8 : 4; }

template <class T>
void give_array(Memory& memory, T*& pointer, std::initializer_list<int64_t> sizes, int64_t item, Role role) {
    pointer = static_cast<T*>(memory.give(pointer, sizes, item, role));
}

void give_rows(Memory& memory, simplematch_rows& r, int64_t batch, int64_t queries, int64_t height, int64_t width) {
    r.num_keypoints = memory.give_integers(r.num_keypoints, {batch}, 0, queries);
    r.valid = static_cast<const uint8_t*>(memory.give(r.valid, {batch, queries}, 1, Role::input));
    const int64_t stride = r.target_mask_stride;
    r.target_mask = static_cast<const uint8_t*>(
        stride == 0 ? memory.give(r.target_mask, {batch, height, width}, 1, Role::input)
                    : memory.give(r.target_mask, {batch, queries, stride}, 1, Role::input));
}

void give_matches(Memory& memory, simplematch_matches& m, int64_t batch, int64_t queries, int64_t cells, int64_t item, Role role) {
    give_array(memory, m.keypoints, {batch, queries, 2}, item, role);
    give_array(memory, m.score, {batch, queries}, item, role);
    give_array(memory, m.log_sum_exp, {batch, queries}, item, role);
    give_array(memory, m.covariance, {batch, queries, 2, 2}, item, role);
    give_array(memory, m.second_score, {batch, queries}, item, role);
    give_array(memory, m.second_peak, {batch, queries}, 8, role);
    if (role == Role::output) {
        give_array(memory, m.peak, {batch, queries}, 8, role);
    } else {
        m.peak = const_cast<int64_t*>(memory.give_integers(m.peak, {batch, queries}, 0, cells - 1));
    }
}

void draw_matches(Draw& draw, simplematch_matches& m) {
    draw.address(m.keypoints);
    draw.address(m.score);
    draw.address(m.peak);
    draw.address(m.log_sum_exp);
    draw.address(m.covariance);
    draw.address(m.second_score);
    draw.address(m.second_peak);
}

void draw_upstream(Draw& draw, simplematch_upstream& u) {
    u.keypoints = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, draw.queries, 2, 1, Role::input));
    u.score = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, draw.queries, 1, 1, Role::input));
    u.log_sum_exp = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, draw.queries, 1, 1, Role::input));
    u.covariance = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, draw.queries, 2, 2, Role::input));
    draw.keep(u.covariance);
    draw.keep(u.keypoints);
    draw.keep(u.score);
    draw.keep(u.log_sum_exp);
}

simplematch_tensor draw_gradient(Draw& draw, const simplematch_tensor& input) {
    simplematch_tensor t = draw.maybe(
        draw.tensor(input.dtype, input.size[0], input.size[1], input.size[2], input.size[3], Role::output));
    if (input.data == nullptr) t.data = nullptr;
    return t;
}

// Printed at the end: a run in which nothing succeeds, or everything, tests nothing.
struct Tally {
    long succeeded = 0, refused = 0, out_of_memory = 0, too_large = 0;
    ~Tally() {
        std::fprintf(stderr, "calls: %ld succeeded, %ld refused, %ld out of memory, %ld too large to make\n", succeeded,
                     refused, out_of_memory, too_large);
    }
} tally;

// Uninitialised, and of just the size, so that a sanitizer sees what lies beyond.
void* give_workspace(int64_t bytes) {
    return bytes > 0 ? std::aligned_alloc(256, size_t(bytes + 255) / 256 * 256) : nullptr;
}

template <class Call, class Query>
void judge(const Memory& memory, bool spoilt, simplematch_device& device, Call&& call, Query&& query) {
    if (memory.too_large()) {
        ++tally.too_large;
        return;
    }
    int64_t bytes = -1;
    const simplematch_status asked = query(&bytes);
    const bool gpu = device.kind == SIMPLEMATCH_CUDA;
    if (asked == SIMPLEMATCH_OK ? bytes < 0 || (bytes > 0 && !gpu) : bytes != -1)
        broken("a workspace query answers a size, 0 on the CPU, or nothing");
    const std::unique_ptr<void, decltype(&std::free)> workspace(give_workspace(gpu ? bytes : 0), std::free);
    if (gpu && device.workspace_bytes == 0) device.workspace = workspace.get(), device.workspace_bytes = std::max<int64_t>(bytes, 0);
    const simplematch_status status = call();
    ++(status == SIMPLEMATCH_OK ? tally.succeeded
       : status == SIMPLEMATCH_OUT_OF_MEMORY ? tally.out_of_memory : tally.refused);
    if (status == SIMPLEMATCH_OK) {
        if (asked != SIMPLEMATCH_OK) broken("a problem that runs has a workspace");
        if (memory.must_be_refused()) broken("impossible sizes are refused");
        memory.check_outputs_written();
    } else {
        if (!spoilt) broken("a valid call succeeds");
        if (simplematch_error_message()[0] == '\0') broken("a failure has a message");
        if (status > SIMPLEMATCH_OUT_OF_MEMORY) broken("bad arguments are no internal error");
        if (status != SIMPLEMATCH_OUT_OF_MEMORY) memory.check_outputs_unchanged();
    }
    memory.check_inputs_unchanged();
}

}  // namespace

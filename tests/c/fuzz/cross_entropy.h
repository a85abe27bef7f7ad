// Calls of sparse_match_cross_entropy.
#pragma once

#include "call.h"

namespace {

void fuzz_cross_entropy(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_cross_entropy_problem p = simplematch_cross_entropy_problem_default();
    p.source = draw.tensor(draw.features, draw.batch, draw.channels, 1 + in.below(9), 1 + in.below(9), Role::input);
    p.keypoints = draw.tensor(int32_t(in.below(2)), draw.batch, draw.queries, 2, 1, Role::input);
    p.target = draw.tensor(draw.features, draw.batch, draw.channels, draw.height, draw.width, Role::input);
    p.target_keypoints = draw.tensor(int32_t(in.below(2)), draw.batch, draw.queries, 2, 1, Role::input);
    p.temperature = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, draw.queries, 1, 1, Role::input));
    for (auto* t : {&p.source, &p.keypoints, &p.target, &p.target_keypoints, &p.temperature}) draw.keep(*t);
    draw.rows(p.rows);
    draw.sampling(p.sampling);
    draw.metric(p.metric);
    p.truth = {draw.affine(), draw.affine(), draw.side(), 0.5 + double(in.below(9)), 0.02 + double(in.below(200)) / 50};
    members.integers.push_back(&p.truth.kernel_size);
    members.reals.insert(members.reals.end(), {&p.truth.sigma, &p.truth.temperature});
    draw.keep(p.truth.to_cells_x);
    draw.budget(p.score_budget);
    simplematch_cross_entropy_result result;
    draw.address(result.loss);
    draw.address(result.cell);
    draw.address(result.target_norm);
    simplematch_cross_entropy_upstream upstream = {p.temperature};
    simplematch_match_gradients gradients = {p.source, p.keypoints, p.target, p.temperature};
    if (backward) {
        upstream.loss = draw.tensor(draw.arithmetic, draw.batch, draw.queries, 1, 1, Role::input);
        gradients = {draw_gradient(draw, p.source), draw_gradient(draw, p.keypoints), draw_gradient(draw, p.target),
                     draw_gradient(draw, p.temperature)};
        for (auto* t : {&upstream.loss, &gradients.source, &gradients.keypoints, &gradients.target, &gradients.temperature})
            draw.keep(*t);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    const int64_t B = p.target.size[0], H = p.target.size[2], W = p.target.size[3];
    const int64_t N = p.keypoints.data != nullptr ? p.keypoints.size[1] : p.source.size[3];
    const Role role = backward ? Role::input : Role::output;
    for (auto* t : {&p.source, &p.keypoints, &p.target, &p.target_keypoints, &p.temperature}) memory.give(*t, Role::input);
    give_rows(memory, p.rows, B, N, H, W);
    give_array(memory, result.loss, {B, N}, item_of(p.target.dtype), role);
    give_array(memory, result.target_norm, {B, H, W}, item_of(p.target.dtype), role);
    if (backward) {
        result.cell = const_cast<int64_t*>(memory.give_integers(result.cell, {B, N}, -1, cells_of(H, W) - 1));
        for (auto* t : {&upstream.loss}) memory.give(*t, Role::input);
        for (auto* t : {&gradients.source, &gradients.keypoints, &gradients.target, &gradients.temperature})
            memory.give(*t, Role::output);
        judge(memory, spoilt, device,
              [&] { return simplematch_sparse_match_cross_entropy_backward(&p, &result, &upstream, &gradients, &device); },
              [&](int64_t* bytes) {
                  return simplematch_sparse_match_cross_entropy_backward_workspace(&p, &gradients, &device, bytes);
              });
    } else {
        give_array(memory, result.cell, {B, N}, 8, role);
        judge(memory, spoilt, device, [&] { return simplematch_sparse_match_cross_entropy(&p, &result, &device); },
              [&](int64_t* bytes) { return simplematch_sparse_match_cross_entropy_workspace(&p, &device, bytes); });
    }
}

}  // namespace

// Calls of neighbour_products and localize_upsampled.
#pragma once

#include "call.h"

namespace {

void fuzz_neighbours(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_neighbour_problem p = simplematch_neighbour_problem_default();
    p.features = draw.tensor(draw.features, draw.batch, draw.channels, draw.height, draw.width, Role::input);
    draw.keep(p.features);
    simplematch_neighbour_result result;
    simplematch_neighbour_upstream upstream;
    simplematch_neighbour_gradients gradients = {p.features};
    if (backward) {
        draw.address(upstream.products);
        gradients.features = draw_gradient(draw, p.features);
        draw.keep(gradients.features);
    } else {
        draw.address(result.products);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    const int64_t B = p.features.size[0], H = p.features.size[2], W = p.features.size[3];
    memory.give(p.features, Role::input);
    if (backward) {
        give_array(memory, upstream.products, {B, 5, H, W}, 8, Role::input);
        memory.give(gradients.features, Role::output);
        judge(memory, spoilt, device,
              [&] { return simplematch_neighbour_products_backward(&p, &upstream, &gradients, &device); },
              [&](int64_t* bytes) { return simplematch_neighbour_products_backward_workspace(&p, &gradients, &device, bytes); });
    } else {
        give_array(memory, result.products, {B, 5, H, W}, 8, Role::output);
        judge(memory, spoilt, device, [&] { return simplematch_neighbour_products(&p, &result, &device); },
              [&](int64_t* bytes) { return simplematch_neighbour_products_workspace(&p, &device, bytes); });
    }
}

void fuzz_upsampled(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_upsampled_problem p = simplematch_upsampled_problem_default();
    p.scores = draw.tensor(draw.features, draw.batch, draw.queries, draw.height, draw.width, Role::input);
    p.temperature = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, draw.queries, 1, 1, Role::input));
    draw.keep(p.scores);
    draw.keep(p.temperature);
    draw.rows(p.rows);
    draw.metric(p.metric);
    p.metric.kind %= 3;  // l1 is refused
    draw.localization(p.localization);
    draw.address(p.products);
    p.height = 1 + in.below(40);
    p.width = 1 + in.below(40);
    if (p.rows.target_mask_stride != 0) p.rows.target_mask_stride += p.height * p.width;
    simplematch_matches matches;
    draw_matches(draw, matches);
    matches.covariance = matches.second_score = nullptr;
    matches.second_peak = nullptr;
    simplematch_upstream upstream;
    simplematch_upsampled_gradients gradients = {p.scores, nullptr, p.temperature};
    if (backward) {
        draw_upstream(draw, upstream);
        upstream.covariance.data = nullptr;
        gradients = {draw_gradient(draw, p.scores), nullptr, draw_gradient(draw, p.temperature)};
        draw.address(gradients.products, p.metric.kind != SIMPLEMATCH_DOT && in.flip());
        draw.keep(gradients.scores);
        draw.keep(gradients.temperature);
    }

    bool spoilt = spoil(members, in);
    if (in.seldom()) p.height = in.below(2) - 1, spoilt = true;
    bound_threads(device);
    const int64_t B = p.scores.size[0], N = p.scores.size[1], h = p.scores.size[2], w = p.scores.size[3];
    const Role role = backward ? Role::input : Role::output;
    memory.give(p.scores, Role::input);
    memory.give(p.temperature, Role::input);
    give_array(memory, p.products, {B, 5, h, w}, 8, Role::input);
    give_rows(memory, p.rows, B, N, p.height, p.width);
    give_matches(memory, matches, B, N, cells_of(p.height, p.width), item_of(p.scores.dtype), role);
    if (backward) {
        for (auto* t : {&upstream.keypoints, &upstream.score, &upstream.log_sum_exp}) memory.give(*t, Role::input);
        for (auto* t : {&gradients.scores, &gradients.temperature}) memory.give(*t, Role::output);
        give_array(memory, gradients.products, {B, 5, h, w}, 8, Role::output);
        judge(memory, spoilt, device,
              [&] { return simplematch_localize_upsampled_backward(&p, &matches, &upstream, &gradients, &device); },
              [&](int64_t* bytes) { return simplematch_localize_upsampled_backward_workspace(&p, &gradients, &device, bytes); });
    } else {
        judge(memory, spoilt, device, [&] { return simplematch_localize_upsampled(&p, &matches, &device); },
              [&](int64_t* bytes) { return simplematch_localize_upsampled_workspace(&p, &device, bytes); });
    }
}

}  // namespace

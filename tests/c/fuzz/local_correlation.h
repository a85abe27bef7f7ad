// Calls of local_correlation.
#pragma once

#include "call.h"

namespace {

void fuzz_correlation(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_correlation_problem p = simplematch_correlation_problem_default();
    p.queries = draw.tensor(draw.features, draw.batch, draw.channels, 1, draw.queries, Role::input);
    p.target = draw.tensor(draw.features, draw.batch, draw.channels, draw.height, draw.width, Role::input);
    p.coords = draw.tensor(int32_t(in.below(2)), draw.batch, draw.queries, 2, 1, Role::input);
    p.offsets = draw.maybe(draw.tensor(int32_t(in.below(2)), draw.batch, 1 + in.below(6), 2, 1, Role::input));
    for (auto* t : {&p.queries, &p.target, &p.coords, &p.offsets}) draw.keep(*t);
    draw.rows(p.rows);
    p.rows.target_mask = nullptr;
    draw.sampling(p.sampling);
    draw.metric(p.metric);
    p.sampling.mode = 1 + p.sampling.mode % 2;
    p.metric.kind %= 2;
    p.radius_y = in.below(5);
    p.radius_x = in.below(5);
    members.integers.insert(members.integers.end(), {&p.radius_y, &p.radius_x});
    members.reals.push_back(&p.scale);
    simplematch_correlation_result result;
    draw.address(result.correlation);
    const int64_t samples = p.offsets.data != nullptr ? p.offsets.size[1] : (2 * p.radius_y + 1) * (2 * p.radius_x + 1);
    simplematch_correlation_upstream upstream = {p.target};
    simplematch_correlation_gradients gradients = {p.queries, p.target, p.coords};
    if (backward) {
        upstream.correlation = draw.tensor(draw.arithmetic, draw.batch, draw.queries, samples, 1, Role::input);
        gradients = {draw_gradient(draw, p.queries), draw_gradient(draw, p.target), draw_gradient(draw, p.coords)};
        for (auto* t : {&upstream.correlation, &gradients.queries, &gradients.target, &gradients.coords}) draw.keep(*t);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    const int64_t B = p.target.size[0], N = p.coords.size[1], H = p.target.size[2], W = p.target.size[3];
    for (auto* t : {&p.queries, &p.target, &p.coords, &p.offsets}) memory.give(*t, Role::input);
    give_rows(memory, p.rows, B, N, H, W);
    if (backward) {
        memory.give(upstream.correlation, Role::input);
        for (auto* t : {&gradients.queries, &gradients.target, &gradients.coords}) memory.give(*t, Role::output);
        judge(memory, spoilt, device,
              [&] { return simplematch_local_correlation_backward(&p, &upstream, &gradients, &device); },
              [&](int64_t* bytes) { return simplematch_local_correlation_backward_workspace(&p, &gradients, &device, bytes); });
    } else {
        const bool window = p.offsets.data == nullptr;
        const auto side = [](int64_t radius) { return radius >= 0 && radius < 100 ? 2 * radius + 1 : 1; };  // else refused
        const int64_t rows = window ? side(p.radius_y) : p.offsets.size[1], columns = window ? side(p.radius_x) : 1;
        give_array(memory, result.correlation, {B, N, rows, columns}, item_of(p.target.dtype), Role::output);
        judge(memory, spoilt, device, [&] { return simplematch_local_correlation(&p, &result, &device); },
              [&](int64_t* bytes) { return simplematch_local_correlation_workspace(&p, &device, bytes); });
    }
}

}  // namespace

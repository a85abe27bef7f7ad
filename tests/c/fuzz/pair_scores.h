// Calls of pair_scores.
#pragma once

#include "call.h"

namespace {

void fuzz_pair_scores(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_pair_problem p = simplematch_pair_problem_default();
    p.a = draw.tensor(draw.features, draw.batch, draw.channels, 1 + in.below(2), draw.queries, Role::input);
    p.b = draw.tensor(draw.features, draw.batch, draw.channels, draw.height, draw.width, Role::input);
    draw.keep(p.a);
    draw.keep(p.b);
    draw.address(p.index_a);
    draw.address(p.index_b);
    p.pairs = in.seldom() ? 64 + in.below(20) : in.below(9);
    members.integers.push_back(&p.pairs);
    draw.metric(p.metric);
    simplematch_pair_result r;
    draw.address(r.scores);
    simplematch_pair_upstream u = {p.a};
    simplematch_pair_gradients g = {p.a, p.b};
    if (backward) {
        u.scores = draw.tensor(draw.arithmetic, draw.batch, p.pairs, 1, 1, Role::input);
        g = {draw_gradient(draw, p.a), draw_gradient(draw, p.b)};
        for (auto* t : {&u.scores, &g.a, &g.b}) draw.keep(*t);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    const auto count = [](const simplematch_tensor& t) {
        return t.size[2] == 0 || t.size[3] == 0 ? 0 : cells_of(t.size[2], t.size[3]);
    };
    memory.give(p.a, Role::input);
    memory.give(p.b, Role::input);
    p.index_a = memory.give_integers(p.index_a, {p.a.size[0], p.pairs}, -2, count(p.a) - 1);
    p.index_b = memory.give_integers(p.index_b, {p.a.size[0], p.pairs}, -2, count(p.b) - 1);
    give_array(memory, r.scores, {p.a.size[0], p.pairs}, item_of(p.a.dtype), backward ? Role::input : Role::output);
    if (backward) {
        memory.give(u.scores, Role::input);
        memory.give(g.a, Role::output);
        memory.give(g.b, Role::output);
        judge(memory, spoilt, device, [&] { return simplematch_pair_scores_backward(&p, &r, &u, &g, &device); },
              [&](int64_t* bytes) { return simplematch_pair_scores_backward_workspace(&p, &g, &device, bytes); });
    } else {
        judge(memory, spoilt, device, [&] { return simplematch_pair_scores(&p, &r, &device); },
              [&](int64_t* bytes) { return simplematch_pair_scores_workspace(&p, &device, bytes); });
    }
}

}  // namespace

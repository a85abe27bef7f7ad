// Calls of match_all.
#pragma once

#include "call.h"

namespace {

void fuzz_match_all(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_match_all_problem p = simplematch_match_all_problem_default();
    const int64_t rows_of_a = in.flip() ? 1 : in.below(4);
    p.a = draw.tensor(draw.features, draw.batch, draw.channels, rows_of_a, draw.queries, Role::input);
    p.b = draw.tensor(draw.features, draw.batch, draw.channels, draw.height, draw.width, Role::input);
    for (auto* t : {&p.temperature, &p.bin_score})
        *t = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, 1, 1, 1, Role::input));
    for (simplematch_tensor* t : {&p.a, &p.b, &p.temperature, &p.bin_score}) draw.keep(*t);
    draw.rows(p.rows_a);
    draw.rows(p.rows_b);
    p.rows_a.target_mask = p.rows_b.target_mask = nullptr;
    draw.metric(p.metric);
    draw.budget(p.score_budget);
    members.reals.insert(members.reals.end(), {&p.fixed_temperature, &p.fixed_bin_score});
    simplematch_match_all_result r;
    for (auto** each : {&r.score_a, &r.score_b, &r.norm_a, &r.norm_b, &r.log_sum_exp_a, &r.log_sum_exp_b, &r.second_a, &r.second_b})
        draw.address(*each);
    draw.address(r.index_a), draw.address(r.index_b), draw.address(r.mutual);
    if (in.flip()) r.log_sum_exp_a = r.log_sum_exp_b = nullptr, r.second_a = r.second_b = nullptr;
    const int64_t of_a = rows_of_a * draw.queries, of_b = draw.height * draw.width;
    simplematch_match_all_upstream u;
    simplematch_match_all_gradients g = {p.a, p.b, p.temperature, p.bin_score};
    if (backward) {
        for (auto* t : {&u.score_a, &u.log_sum_exp_a, &u.score_b, &u.log_sum_exp_b})
            *t = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, t == &u.score_a || t == &u.log_sum_exp_a ? of_a : of_b, 1, 1, Role::input));
        g = {draw_gradient(draw, p.a), draw_gradient(draw, p.b), draw_gradient(draw, p.temperature),
             draw_gradient(draw, p.bin_score)};
        for (auto* t : {&u.score_a, &u.log_sum_exp_a, &u.score_b, &u.log_sum_exp_b, &g.a, &g.b, &g.temperature, &g.bin_score})
            draw.keep(*t);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    const auto count = [](const simplematch_tensor& t) { return t.size[2] == 0 || t.size[3] == 0 ? 0 : cells_of(t.size[2], t.size[3]); };
    const int64_t B = p.a.size[0], N = count(p.a), M = count(p.b), item = item_of(p.a.dtype);
    const Role role = backward ? Role::input : Role::output;
    for (simplematch_tensor* t : {&p.a, &p.b, &p.temperature, &p.bin_score}) memory.give(*t, Role::input);
    give_rows(memory, p.rows_a, B, N, 1, 1);
    give_rows(memory, p.rows_b, B, M, 1, 1);
    for (auto** each : {&r.score_a, &r.log_sum_exp_a, &r.second_a, &r.norm_a}) give_array(memory, *each, {B, N}, item, role);
    for (auto** each : {&r.score_b, &r.log_sum_exp_b, &r.second_b, &r.norm_b}) give_array(memory, *each, {B, M}, item, role);
    give_array(memory, r.mutual, {B, N}, 1, role);
    if (backward) {
        r.index_a = const_cast<int64_t*>(memory.give_integers(r.index_a, {B, N}, -1, M - 1));
        r.index_b = const_cast<int64_t*>(memory.give_integers(r.index_b, {B, M}, -1, N - 1));
        for (auto* t : {&u.score_a, &u.log_sum_exp_a, &u.score_b, &u.log_sum_exp_b}) memory.give(*t, Role::input);
        for (auto* t : {&g.a, &g.b, &g.temperature, &g.bin_score}) memory.give(*t, Role::output);
        judge(memory, spoilt, device, [&] { return simplematch_match_all_backward(&p, &r, &u, &g, &device); },
              [&](int64_t* bytes) { return simplematch_match_all_backward_workspace(&p, &g, &device, bytes); });
    } else {
        give_array(memory, r.index_a, {B, N}, 8, role);
        give_array(memory, r.index_b, {B, M}, 8, role);
        judge(memory, spoilt, device, [&] { return simplematch_match_all(&p, &r, &device); },
              [&](int64_t* bytes) { return simplematch_match_all_workspace(&p, &device, bytes); });
    }
}

}  // namespace

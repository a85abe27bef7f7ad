// One fuzz input, one call of the C interface. The bytes draw a valid call of small sizes: operator, types, layouts,
// options. Then none to three of its members are spoilt: addresses taken away, sizes, strides, codes and numbers replaced.
// Last, memory of exactly the sizes that the call now states. Whatever came of it:
//
//     an unspoilt call succeeds, on the CPU and on an emulated GPU, a call that states impossible sizes fails
//     a failure has a sentence, and changes nothing
//     a success writes all elements of its outputs and no byte between them
//     inputs never change, and no sanitizer objects
#include "call.h"
#include "cross_entropy.h"
#include "local_correlation.h"
#include "match_all.h"
#include "pair_scores.h"
#include "upsampled.h"

namespace {

void fuzz_match(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_match_problem p = simplematch_match_problem_default();
    const bool sampled = in.flip() || in.flip();
    const int64_t source_height = sampled ? 1 + in.below(9) : 1, source_width = sampled ? 1 + in.below(9) : draw.queries;
    p.source = draw.tensor(draw.features, draw.batch, draw.channels, source_height, source_width, Role::input);
    p.keypoints = draw.tensor(int32_t(in.below(2)), draw.batch, draw.queries, 2, 1, Role::input);
    if (!sampled) p.keypoints.data = nullptr;
    p.target = draw.tensor(draw.features, draw.batch, draw.channels, draw.height, draw.width, Role::input);
    p.temperature = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, draw.queries, 1, 1, Role::input));
    for (simplematch_tensor* t : {&p.source, &p.keypoints, &p.target, &p.temperature}) draw.keep(*t);
    draw.rows(p.rows);
    draw.sampling(p.sampling);
    draw.metric(p.metric);
    draw.localization(p.localization);
    draw.budget(p.score_budget);
    p.kept_queries = in.below(draw.queries + 1);
    members.integers.push_back(&p.kept_queries);
    simplematch_match_result result;
    draw_matches(draw, result.matches);
    draw.address(result.target_norm);
    draw.address(result.window_scores);
    simplematch_upstream upstream;
    simplematch_match_gradients gradients = {p.source, p.keypoints, p.target, p.temperature};
    if (backward) {
        draw_upstream(draw, upstream);
        gradients = {draw_gradient(draw, p.source), draw_gradient(draw, p.keypoints), draw_gradient(draw, p.target),
                     draw_gradient(draw, p.temperature)};
        for (auto* t : {&gradients.source, &gradients.keypoints, &gradients.target, &gradients.temperature}) draw.keep(*t);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    const int64_t B = p.target.size[0], H = p.target.size[2], W = p.target.size[3];
    const int64_t N = p.keypoints.data != nullptr ? p.keypoints.size[1] : p.source.size[3];
    const int64_t item = item_of(p.target.dtype);
    const Role role = backward ? Role::input : Role::output;
    for (simplematch_tensor* t : {&p.source, &p.keypoints, &p.target, &p.temperature}) memory.give(*t, Role::input);
    give_rows(memory, p.rows, B, N, H, W);
    give_matches(memory, result.matches, B, N, cells_of(H, W), item, role);
    give_array(memory, result.target_norm, {B, H, W}, item, role);
    const simplematch_window& window = p.localization.window;
    give_array(memory, result.window_scores, {B, p.kept_queries, std::min(window.height, H), std::min(window.width, W)},
               item, role);
    if (backward) {
        for (auto* t : {&upstream.keypoints, &upstream.score, &upstream.log_sum_exp, &upstream.covariance})
            memory.give(*t, Role::input);
        for (auto* t : {&gradients.source, &gradients.keypoints, &gradients.target, &gradients.temperature})
            memory.give(*t, Role::output);
        judge(memory, spoilt, device,
              [&] { return simplematch_sparse_window_match_backward(&p, &result, &upstream, &gradients, &device); },
              [&](int64_t* bytes) { return simplematch_sparse_window_match_backward_workspace(&p, &gradients, &device, bytes); });
    } else {
        judge(memory, spoilt, device, [&] { return simplematch_sparse_window_match(&p, &result, &device); },
              [&](int64_t* bytes) { return simplematch_sparse_window_match_workspace(&p, &device, bytes); });
    }
}

void fuzz_localize(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_localize_problem p = simplematch_localize_problem_default();
    p.scores = draw.tensor(draw.features, draw.batch, draw.queries, draw.height, draw.width, Role::input);
    p.temperature = draw.maybe(draw.tensor(draw.arithmetic, draw.batch, draw.queries, 1, 1, Role::input));
    draw.keep(p.scores);
    draw.keep(p.temperature);
    draw.rows(p.rows);
    draw.localization(p.localization);
    simplematch_matches matches;
    draw_matches(draw, matches);
    simplematch_upstream upstream;
    simplematch_localize_gradients gradients = {p.scores, p.temperature};
    if (backward) {
        draw_upstream(draw, upstream);
        gradients = {draw_gradient(draw, p.scores), draw_gradient(draw, p.temperature)};
        draw.keep(gradients.scores);
        draw.keep(gradients.temperature);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    const int64_t B = p.scores.size[0], N = p.scores.size[1], H = p.scores.size[2], W = p.scores.size[3];
    memory.give(p.scores, Role::input);
    memory.give(p.temperature, Role::input);
    give_rows(memory, p.rows, B, N, H, W);
    give_matches(memory, matches, B, N, cells_of(H, W), item_of(p.scores.dtype),
                 backward ? Role::input : Role::output);
    if (backward) {
        for (auto* t : {&upstream.keypoints, &upstream.score, &upstream.log_sum_exp, &upstream.covariance})
            memory.give(*t, Role::input);
        for (auto* t : {&gradients.scores, &gradients.temperature}) memory.give(*t, Role::output);
        judge(memory, spoilt, device,
              [&] { return simplematch_localize_backward(&p, &matches, &upstream, &gradients, &device); },
              [&](int64_t* bytes) { return simplematch_localize_backward_workspace(&p, &gradients, &device, bytes); });
    } else {
        judge(memory, spoilt, device, [&] { return simplematch_localize(&p, &matches, &device); },
              [&](int64_t* bytes) { return simplematch_localize_workspace(&p, &device, bytes); });
    }
}

void fuzz_gather(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_gather_problem p = simplematch_gather_problem_default();
    p.features = draw.tensor(draw.features, draw.batch, draw.channels, draw.height, draw.width, Role::input);
    p.keypoints = draw.tensor(int32_t(in.below(2)), draw.batch, draw.queries, 2, 1, Role::input);
    draw.keep(p.features);
    draw.keep(p.keypoints);
    draw.sampling(p.sampling);
    simplematch_gather_result result;
    draw.address(result.descriptors);
    simplematch_gather_upstream upstream = {p.features};
    simplematch_gather_gradients gradients = {p.features, p.keypoints};
    if (backward) {
        upstream.descriptors = draw.tensor(draw.features, draw.batch, draw.queries, draw.channels, 1, Role::input);
        gradients = {draw_gradient(draw, p.features), draw_gradient(draw, p.keypoints)};
        for (auto* t : {&upstream.descriptors, &gradients.features, &gradients.keypoints}) draw.keep(*t);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    memory.give(p.features, Role::input);
    memory.give(p.keypoints, Role::input);
    if (backward) {
        memory.give(upstream.descriptors, Role::input);
        for (auto* t : {&gradients.features, &gradients.keypoints}) memory.give(*t, Role::output);
        judge(memory, spoilt, device,
              [&] { return simplematch_gather_keypoints_backward(&p, &upstream, &gradients, &device); },
              [&](int64_t* bytes) { return simplematch_gather_keypoints_backward_workspace(&p, &gradients, &device, bytes); });
    } else {
        const int64_t item = p.features.dtype == SIMPLEMATCH_FLOAT64 ? 8 : p.features.dtype == SIMPLEMATCH_FLOAT32 ? 4 : 2;
        give_array(memory, result.descriptors, {p.features.size[0], p.keypoints.size[1], p.features.size[1]}, item, Role::output);
        judge(memory, spoilt, device, [&] { return simplematch_gather_keypoints(&p, &result, &device); },
              [&](int64_t* bytes) { return simplematch_gather_keypoints_workspace(&p, &device, bytes); });
    }
}

void fuzz_similarity(Input& in, Memory& memory, bool backward) {
    Members members;
    Draw draw(in, members);
    draw.sizes();
    simplematch_device device;
    draw.device(device);
    simplematch_similarity_problem p = simplematch_similarity_problem_default();
    p.descriptors = draw.tensor(draw.features, draw.batch, draw.channels, 1, draw.queries, Role::input);
    p.target = draw.tensor(draw.features, draw.batch, draw.channels, draw.height, draw.width, Role::input);
    draw.keep(p.descriptors);
    draw.keep(p.target);
    draw.metric(p.metric);
    draw.budget(p.score_budget);
    simplematch_similarity_result result;
    draw.address(result.scores);
    draw.address(result.target_norm);
    simplematch_similarity_upstream upstream = {p.target};
    simplematch_similarity_gradients gradients = {p.descriptors, p.target};
    if (backward) {
        upstream.scores = draw.tensor(draw.arithmetic, draw.batch, draw.queries, draw.height, draw.width, Role::input);
        gradients = {draw_gradient(draw, p.descriptors), draw_gradient(draw, p.target)};
        for (auto* t : {&upstream.scores, &gradients.descriptors, &gradients.target}) draw.keep(*t);
    }

    const bool spoilt = spoil(members, in);
    bound_threads(device);
    const int64_t B = p.target.size[0], N = p.descriptors.size[3], H = p.target.size[2], W = p.target.size[3];
    const Role role = backward ? Role::input : Role::output;
    memory.give(p.descriptors, Role::input);
    memory.give(p.target, Role::input);
    give_array(memory, result.scores, {B, N, H, W}, item_of(p.target.dtype), role);
    give_array(memory, result.target_norm, {B, H, W}, item_of(p.target.dtype), role);
    if (backward) {
        memory.give(upstream.scores, Role::input);
        for (auto* t : {&gradients.descriptors, &gradients.target}) memory.give(*t, Role::output);
        judge(memory, spoilt, device,
              [&] { return simplematch_cosine_similarity_backward(&p, &result, &upstream, &gradients, &device); },
              [&](int64_t* bytes) { return simplematch_cosine_similarity_backward_workspace(&p, &gradients, &device, bytes); });
    } else {
        judge(memory, spoilt, device, [&] { return simplematch_cosine_similarity(&p, &result, &device); },
              [&](int64_t* bytes) { return simplematch_cosine_similarity_workspace(&p, &device, bytes); });
    }
}

void fuzz_coordinates(Input& in) {
    const int32_t coordinates = int32_t(in.below(5)) - 1;
    const int64_t cells = nasty_integer(in), pixels = nasty_integer(in);
    simplematch_affine map = {1, 2, 0};
    const simplematch_status status = in.flip() ? simplematch_cells_from_pixels(coordinates, cells, pixels, &map)
                                                : simplematch_pixels_from_cells(coordinates, cells, pixels, &map);
    if (status == SIMPLEMATCH_OK ? map.denominator == 0 : map.denominator != 0)
        broken("a map has a denominator, and a refused one is not written");
}

}  // namespace

// A scratch space that is too large is an error of the call, not of the program.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in(data, size);
    const int64_t choice = in.below(21);
    const uint64_t seed = in.word();
    Memory memory(seed, in.seldom());
    const bool backward = choice % 2 != 0;
    switch (choice / 2) {
        case 0: fuzz_match(in, memory, backward); break;
        case 1: fuzz_localize(in, memory, backward); break;
        case 2: fuzz_gather(in, memory, backward); break;
        case 3: fuzz_similarity(in, memory, backward); break;
        case 4: fuzz_neighbours(in, memory, backward); break;
        case 5: fuzz_upsampled(in, memory, backward); break;
        case 6: fuzz_match_all(in, memory, backward); break;
        case 7: fuzz_cross_entropy(in, memory, backward); break;
        case 8: fuzz_correlation(in, memory, backward); break;
        case 9: fuzz_pair_scores(in, memory, backward); break;
        default: fuzz_coordinates(in);
    }
    return 0;
}

// Checks that read memory, so they serve the CPU alone.
#include <algorithm>
#include <cinttypes>

#include "checks.h"

namespace simplematch::abi {
namespace {

// `letter`: of the number of rows in the documentation.
void check_counts(const RowsNames& names, const Rows& rows, int64_t batch, char letter, int64_t count) {
    for (int64_t b = 0; rows.num_keypoints != nullptr && b < batch; ++b)
        if (rows.num_keypoints[b] < 0 || rows.num_keypoints[b] > count)
            refuse("%s must lie between 0 and %c = %" PRId64 ", got %" PRId64 " for image %" PRId64, names.num_keypoints,
                   letter, count, rows.num_keypoints[b], b);
}

void check_counts(const Rows& rows, const Sizes& s) { check_counts(kRowsNames, rows, s.batch, 'N', s.queries); }

void check_image_sizes(const char* name, const int64_t* sizes, int64_t batch) {
    for (int64_t i = 0; sizes != nullptr && i < 2 * batch; ++i)
        if (sizes[i] < 1 || sizes[i] > kMostElements)
            refuse("%s must hold sizes from 1 to 2^40 pixels, got %" PRId64 " for the %s of image %" PRId64, name, sizes[i],
                   i % 2 == 0 ? "height" : "width", i / 2);
}

void check_image_sizes(const Sampling& sampling, const Sizes& s) {
    check_image_sizes("sampling.image_sizes", sampling.image_sizes, s.batch);
}

void check_image_sizes(const Localization& localization, const Sizes& s) {
    check_image_sizes("localization.image_sizes", localization.image_sizes, s.batch);
}

// Whether query n of image b has a cell to select.
bool any_cell(const Rows& rows, const Sizes& s, int64_t b, int64_t n) {
    const int64_t cells = s.height * s.width;
    const uint8_t* const mask = masks_of(rows, s.queries, cells).of(b, n);
    return mask == nullptr || std::any_of(mask, mask + cells, [](uint8_t cell) { return cell != 0; });
}

// The peaks of the rows that count lie in the map: the backward goes by them.
void check_peaks(const Matches& forward, const Rows& rows, const Sizes& s) {
    const int64_t cells = s.height * s.width;
    for (int64_t b = 0; b < s.batch; ++b) {
        for (int64_t n = 0; n < s.queries; ++n) {
            const int64_t peak = forward.peak[b * s.queries + n];
            if ((peak < 0 || peak >= cells) && is_valid(rows, b, n, s.queries) && any_cell(rows, s, b, n))
                refuse("matches.peak must hold cells from 0 to %" PRId64 " as the forward wrote them, got %" PRId64
                       " in image %" PRId64 ", row %" PRId64, cells - 1, peak, b, n);
        }
    }
}

// So do indices (batch, count) of others, or are -1.
void check_indices(const char* name, const int64_t* index, int64_t batch, int64_t count, int64_t others) {
    for (int64_t i = 0; i < batch * count; ++i)
        if (index[i] < -1 || index[i] >= others)
            refuse("%s must hold numbers from -1 to %" PRId64 " as the forward wrote them, got %" PRId64 " in image %" PRId64
                   ", row %" PRId64, name, others - 1, index[i], i / count, i % count);
}

// Cells of a set, of pairs; below 0: padding.
void check_cells(const char* name, const int64_t* index, int64_t batch, int64_t pairs, const char* set, int64_t cells) {
    for (int64_t i = 0; i < batch * pairs; ++i)
        if (index[i] >= cells)
            refuse("%s must be below the number of cells of %s, %" PRId64 ", or negative, got %" PRId64 " in image %" PRId64
                   ", pair %" PRId64, name, set, cells, index[i], i / pairs, i % pairs);
}

}  // namespace

void check_values(const MatchProblem& p, const Sizes& s) {
    check_counts(p.rows, s);
    check_image_sizes(p.sampling, s);
    check_image_sizes(p.localization, s);
}

void check_values(const LocalizeProblem& p, const Sizes& s) {
    check_counts(p.rows, s);
    check_image_sizes(p.localization, s);
}

void check_values(const GatherProblem& p, const Sizes& s) { check_image_sizes(p.sampling, s); }

void check_values(const CrossEntropyProblem& p, const Sizes& s) {
    check_counts(p.rows, s);
    check_image_sizes(p.sampling, s);
}

void check_values(const UpsampledProblem& p, const Sizes& s) {
    check_counts(p.rows, s);
    check_image_sizes(p.localization, s);
}

void check_values(const CorrelationProblem& p, const Sizes& s) { check_counts(p.rows, s); }

void check_values(const MatchAllProblem& p, const Sizes& s) {
    check_counts(kRowsNamesOfA, p.rows_a, s.batch, 'N', s.queries);
    check_counts(kRowsNamesOfB, p.rows_b, s.batch, 'M', s.height * s.width);
}

void check_values(const PairProblem& p, const Sizes& s) {
    check_cells("index_a", p.index_a, s.batch, p.pairs, "a", s.queries);
    check_cells("index_b", p.index_b, s.batch, p.pairs, "b", s.height * s.width);
}

void check_forward(const MatchResult& forward, const MatchProblem& p, const Sizes& s) {
    check_peaks(forward.matches, p.rows, s);
}

void check_forward(const Matches& forward, const LocalizeProblem& p, const Sizes& s) { check_peaks(forward, p.rows, s); }

void check_forward(const Matches& forward, const UpsampledProblem& p, const Sizes& s) { check_peaks(forward, p.rows, s); }

void check_forward(const CrossEntropyResult& forward, const CrossEntropyProblem&, const Sizes& s) {
    check_indices("cell", forward.cell, s.batch, s.queries, s.height * s.width);
}

void check_forward(const MatchAllResult& forward, const MatchAllProblem&, const Sizes& s) {
    check_indices("index_a", forward.index_a, s.batch, s.queries, s.height * s.width);
    check_indices("index_b", forward.index_b, s.batch, s.height * s.width, s.queries);
}

}  // namespace simplematch::abi

// Defaults of the records' fields.
#pragma once

#include <limits>

#include "records.h"

namespace simplematch {

constexpr AffineMap kIdentity = {1, 0, 1};
constexpr int64_t kDefaultScoreBudget = int64_t(64) << 20;

template <class Record>
constexpr Record kDefault = {};
template <>
inline constexpr Sampling kDefault<Sampling> = {
    kIdentity, kIdentity, SIMPLEMATCH_FLOOR, SIMPLEMATCH_ZEROS, nullptr, SIMPLEMATCH_CORNER};
template <>
inline constexpr Metric kDefault<Metric> = {SIMPLEMATCH_COSINE, 0, 1e-8};
template <>
inline constexpr Window kDefault<Window> = {
    45, 45, 1, SIMPLEMATCH_SQUARE, 0, 0, -std::numeric_limits<double>::infinity(), 0};
template <>
inline constexpr Localization kDefault<Localization> = {
    kDefault<Window>, 0.02, kIdentity, kIdentity, 0, nullptr, SIMPLEMATCH_CORNER, {}};
template <>
inline constexpr Device kDefault<Device> = {SIMPLEMATCH_CPU, 0, 0, nullptr, nullptr, 0};
template <>
inline constexpr MatchProblem kDefault<MatchProblem> = {
    kNotGiven, kNotGiven, kNotGiven, kNotGiven, kAllRows, kDefault<Sampling>, kDefault<Metric>, kDefault<Localization>, 0,
    kDefaultScoreBudget};
template <>
inline constexpr LocalizeProblem kDefault<LocalizeProblem> = {kNotGiven, kNotGiven, kAllRows, kDefault<Localization>};
template <>
inline constexpr GatherProblem kDefault<GatherProblem> = {kNotGiven, kNotGiven, kDefault<Sampling>};
template <>
inline constexpr SimilarityProblem kDefault<SimilarityProblem> = {kNotGiven, kNotGiven, kDefault<Metric>, kDefaultScoreBudget};
template <>
inline constexpr MatchAllProblem kDefault<MatchAllProblem> = {
    kNotGiven, kNotGiven, kNotGiven, kNotGiven, kAllRows, kAllRows, kDefault<Metric>, 1,
    -std::numeric_limits<double>::infinity(), kDefaultScoreBudget};
template <>
inline constexpr PairProblem kDefault<PairProblem> = {kNotGiven, kNotGiven, nullptr, nullptr, 0, kDefault<Metric>};
template <>
inline constexpr Truth kDefault<Truth> = {kIdentity, kIdentity, 1, 0.5, 0.02};
template <>
inline constexpr CrossEntropyProblem kDefault<CrossEntropyProblem> = {
    kNotGiven, kNotGiven, kNotGiven, kNotGiven, kNotGiven, kAllRows, kDefault<Sampling>, kDefault<Metric>, kDefault<Truth>,
    kDefaultScoreBudget};
template <>
inline constexpr NeighbourProblem kDefault<NeighbourProblem> = {kNotGiven};
template <>
inline constexpr UpsampledProblem kDefault<UpsampledProblem> = {
    kNotGiven, nullptr, kNotGiven, kAllRows, {SIMPLEMATCH_DOT, 0, 1e-8}, kDefault<Localization>, 1, 1, kDefaultScoreBudget};
template <>
inline constexpr CorrelationProblem kDefault<CorrelationProblem> = {
    kNotGiven, kNotGiven, kNotGiven, kNotGiven, kAllRows,
    {kIdentity, kIdentity, SIMPLEMATCH_BILINEAR, SIMPLEMATCH_ZEROS, nullptr, SIMPLEMATCH_CORNER},
    {SIMPLEMATCH_DOT, 0, 1e-8}, 4, 4, 1};

}  // namespace simplematch

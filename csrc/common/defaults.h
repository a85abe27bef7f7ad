// Defaults of the records' fields.
#pragma once

#include <limits>

#include "records.h"

namespace simplematch {

constexpr AffineMap kIdentity = {1, 0, 1};
constexpr Sampling kDefaultSampling = {kIdentity, kIdentity, SIMPLEMATCH_FLOOR, SIMPLEMATCH_ZEROS};
constexpr Metric kDefaultMetric = {SIMPLEMATCH_COSINE, 0, 1e-8};
constexpr Window kDefaultWindow = {45, 45, 1, 0, -std::numeric_limits<double>::infinity(), 0};
constexpr Localization kDefaultLocalization = {kDefaultWindow, 0.02, kIdentity, kIdentity, 0};
constexpr Device kDefaultDevice = {SIMPLEMATCH_CPU, 0, 0, nullptr, nullptr, 0};
constexpr int64_t kDefaultScoreBudget = int64_t(64) << 20;

constexpr MatchProblem kDefaultMatchProblem = {
    kNotGiven, kNotGiven, kNotGiven, kNotGiven, kAllRows, kDefaultSampling, kDefaultMetric, kDefaultLocalization, 0,
    kDefaultScoreBudget};
constexpr LocalizeProblem kDefaultLocalizeProblem = {kNotGiven, kNotGiven, kAllRows, kDefaultLocalization};
constexpr GatherProblem kDefaultGatherProblem = {kNotGiven, kNotGiven, kDefaultSampling};
constexpr SimilarityProblem kDefaultSimilarityProblem = {kNotGiven, kNotGiven, kDefaultMetric, kDefaultScoreBudget};

}  // namespace simplematch

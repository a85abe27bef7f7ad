// The fields of each record that Python sets, one line a field.
#pragma once

#include "records.h"

namespace simplematch::python {

template <>
inline const Fields<AffineMap> kFields<AffineMap> = {
    field<&AffineMap::numerator>("numerator"),
    field<&AffineMap::shift>("shift"),
    field<&AffineMap::denominator>("denominator"),
};

template <>
inline const Fields<Sampling> kFields<Sampling> = {
    field<&Sampling::to_cells_x>("to_cells_x"),
    field<&Sampling::to_cells_y>("to_cells_y"),
    field<&Sampling::mode>("mode"),
    field<&Sampling::padding>("padding"),
    field<&Sampling::image_sizes>("image_sizes"),
    field<&Sampling::coordinates>("coordinates"),
};

template <>
inline const Fields<Metric> kFields<Metric> = {
    field<&Metric::kind>("kind"),
    field<&Metric::clamp_eps>("clamp_eps"),
    field<&Metric::eps>("eps"),
};

template <>
inline const Fields<Window> kFields<Window> = {
    field<&Window::height>("height"),
    field<&Window::width>("width"),
    field<&Window::shift>("shift"),
    field<&Window::shape>("shape"),
    field<&Window::disc_height>("disc_height"),
    field<&Window::disc_width>("disc_width"),
    field<&Window::outside_value>("outside_value"),
    field<&Window::sigma>("sigma"),
};

template <>
inline const Fields<Localization> kFields<Localization> = {
    field<&Localization::window>("window"),
    field<&Localization::temperature>("temperature"),
    field<&Localization::from_cells_x>("from_cells_x"),
    field<&Localization::from_cells_y>("from_cells_y"),
    field<&Localization::output_offset>("output_offset"),
    field<&Localization::image_sizes>("image_sizes"),
    field<&Localization::coordinates>("coordinates"),
    field<&Localization::second>("second"),
};

template <>
inline const Fields<Device> kFields<Device> = {
    field<&Device::kind>("kind"),
    field<&Device::index>("index"),
    field<&Device::threads>("threads"),
    field<&Device::stream>("stream"),
};

template <>
inline const Fields<Rows> kFields<Rows> = {
    field<&Rows::num_keypoints>("num_keypoints"),
    field<&Rows::valid>("valid"),
    field<&Rows::target_mask>("target_mask"),
    field<&Rows::target_mask_stride>("target_mask_stride"),
};

template <>
inline const Fields<MatchProblem> kFields<MatchProblem> = {
    field<&MatchProblem::source>("source"),
    field<&MatchProblem::keypoints>("keypoints"),
    field<&MatchProblem::target>("target"),
    field<&MatchProblem::temperature>("temperature"),
    field<&MatchProblem::rows>("rows"),
    field<&MatchProblem::sampling>("sampling"),
    field<&MatchProblem::metric>("metric"),
    field<&MatchProblem::localization>("localization"),
    field<&MatchProblem::kept_queries>("kept_queries"),
    field<&MatchProblem::score_budget>("score_budget"),
};

template <>
inline const Fields<Matches> kFields<Matches> = {
    field<&Matches::keypoints>("keypoints"),
    field<&Matches::score>("score"),
    field<&Matches::peak>("peak"),
    field<&Matches::log_sum_exp>("log_sum_exp"),
    field<&Matches::covariance>("covariance"),
    field<&Matches::second_score>("second_score"),
    field<&Matches::second_peak>("second_peak"),
};

template <>
inline const Fields<MatchResult> kFields<MatchResult> = {
    field<&MatchResult::matches>("matches"),
    field<&MatchResult::target_norm>("target_norm"),
    field<&MatchResult::window_scores>("window_scores"),
};

template <>
inline const Fields<Upstream> kFields<Upstream> = {
    field<&Upstream::keypoints>("keypoints"),
    field<&Upstream::score>("score"),
    field<&Upstream::log_sum_exp>("log_sum_exp"),
    field<&Upstream::covariance>("covariance"),
};

template <>
inline const Fields<MatchGradients> kFields<MatchGradients> = {
    field<&MatchGradients::source>("source"),
    field<&MatchGradients::keypoints>("keypoints"),
    field<&MatchGradients::target>("target"),
    field<&MatchGradients::temperature>("temperature"),
};

template <>
inline const Fields<LocalizeProblem> kFields<LocalizeProblem> = {
    field<&LocalizeProblem::scores>("scores"),
    field<&LocalizeProblem::temperature>("temperature"),
    field<&LocalizeProblem::rows>("rows"),
    field<&LocalizeProblem::localization>("localization"),
};

template <>
inline const Fields<LocalizeGradients> kFields<LocalizeGradients> = {
    field<&LocalizeGradients::scores>("scores"),
    field<&LocalizeGradients::temperature>("temperature"),
};

template <>
inline const Fields<GatherProblem> kFields<GatherProblem> = {
    field<&GatherProblem::features>("features"),
    field<&GatherProblem::keypoints>("keypoints"),
    field<&GatherProblem::sampling>("sampling"),
};

template <>
inline const Fields<GatherResult> kFields<GatherResult> = {field<&GatherResult::descriptors>("descriptors")};

template <>
inline const Fields<GatherUpstream> kFields<GatherUpstream> = {field<&GatherUpstream::descriptors>("descriptors")};

template <>
inline const Fields<GatherGradients> kFields<GatherGradients> = {
    field<&GatherGradients::features>("features"),
    field<&GatherGradients::keypoints>("keypoints"),
};

template <>
inline const Fields<SimilarityProblem> kFields<SimilarityProblem> = {
    field<&SimilarityProblem::descriptors>("descriptors"),
    field<&SimilarityProblem::target>("target"),
    field<&SimilarityProblem::metric>("metric"),
    field<&SimilarityProblem::score_budget>("score_budget"),
};

template <>
inline const Fields<SimilarityResult> kFields<SimilarityResult> = {
    field<&SimilarityResult::scores>("scores"),
    field<&SimilarityResult::target_norm>("target_norm"),
};

template <>
inline const Fields<SimilarityUpstream> kFields<SimilarityUpstream> = {field<&SimilarityUpstream::scores>("scores")};

template <>
inline const Fields<SimilarityGradients> kFields<SimilarityGradients> = {
    field<&SimilarityGradients::descriptors>("descriptors"),
    field<&SimilarityGradients::target>("target"),
};

template <>
inline const Fields<MatchAllProblem> kFields<MatchAllProblem> = {
    field<&MatchAllProblem::a>("a"),
    field<&MatchAllProblem::b>("b"),
    field<&MatchAllProblem::temperature>("temperature"),
    field<&MatchAllProblem::bin_score>("bin_score"),
    field<&MatchAllProblem::rows_a>("rows_a"),
    field<&MatchAllProblem::rows_b>("rows_b"),
    field<&MatchAllProblem::metric>("metric"),
    field<&MatchAllProblem::fixed_temperature>("fixed_temperature"),
    field<&MatchAllProblem::fixed_bin_score>("fixed_bin_score"),
    field<&MatchAllProblem::score_budget>("score_budget"),
};

template <>
inline const Fields<MatchAllResult> kFields<MatchAllResult> = {
    field<&MatchAllResult::index_a>("index_a"),
    field<&MatchAllResult::score_a>("score_a"),
    field<&MatchAllResult::log_sum_exp_a>("log_sum_exp_a"),
    field<&MatchAllResult::second_a>("second_a"),
    field<&MatchAllResult::index_b>("index_b"),
    field<&MatchAllResult::score_b>("score_b"),
    field<&MatchAllResult::log_sum_exp_b>("log_sum_exp_b"),
    field<&MatchAllResult::second_b>("second_b"),
    field<&MatchAllResult::mutual>("mutual"),
    field<&MatchAllResult::norm_a>("norm_a"),
    field<&MatchAllResult::norm_b>("norm_b"),
};

template <>
inline const Fields<MatchAllUpstream> kFields<MatchAllUpstream> = {
    field<&MatchAllUpstream::score_a>("score_a"),
    field<&MatchAllUpstream::log_sum_exp_a>("log_sum_exp_a"),
    field<&MatchAllUpstream::score_b>("score_b"),
    field<&MatchAllUpstream::log_sum_exp_b>("log_sum_exp_b"),
};

template <>
inline const Fields<MatchAllGradients> kFields<MatchAllGradients> = {
    field<&MatchAllGradients::a>("a"),
    field<&MatchAllGradients::b>("b"),
    field<&MatchAllGradients::temperature>("temperature"),
    field<&MatchAllGradients::bin_score>("bin_score"),
};

template <>
inline const Fields<PairProblem> kFields<PairProblem> = {
    field<&PairProblem::a>("a"),
    field<&PairProblem::b>("b"),
    field<&PairProblem::index_a>("index_a"),
    field<&PairProblem::index_b>("index_b"),
    field<&PairProblem::pairs>("pairs"),
    field<&PairProblem::metric>("metric"),
};

template <>
inline const Fields<PairResult> kFields<PairResult> = {field<&PairResult::scores>("scores")};

template <>
inline const Fields<PairUpstream> kFields<PairUpstream> = {field<&PairUpstream::scores>("scores")};

template <>
inline const Fields<PairGradients> kFields<PairGradients> = {
    field<&PairGradients::a>("a"),
    field<&PairGradients::b>("b"),
};

template <>
inline const Fields<Truth> kFields<Truth> = {
    field<&Truth::to_cells_x>("to_cells_x"),
    field<&Truth::to_cells_y>("to_cells_y"),
    field<&Truth::kernel_size>("kernel_size"),
    field<&Truth::sigma>("sigma"),
    field<&Truth::temperature>("temperature"),
};

template <>
inline const Fields<CrossEntropyProblem> kFields<CrossEntropyProblem> = {
    field<&CrossEntropyProblem::source>("source"),
    field<&CrossEntropyProblem::keypoints>("keypoints"),
    field<&CrossEntropyProblem::target>("target"),
    field<&CrossEntropyProblem::target_keypoints>("target_keypoints"),
    field<&CrossEntropyProblem::temperature>("temperature"),
    field<&CrossEntropyProblem::rows>("rows"),
    field<&CrossEntropyProblem::sampling>("sampling"),
    field<&CrossEntropyProblem::metric>("metric"),
    field<&CrossEntropyProblem::truth>("truth"),
    field<&CrossEntropyProblem::score_budget>("score_budget"),
};

template <>
inline const Fields<CrossEntropyResult> kFields<CrossEntropyResult> = {
    field<&CrossEntropyResult::loss>("loss"),
    field<&CrossEntropyResult::cell>("cell"),
    field<&CrossEntropyResult::target_norm>("target_norm"),
};

template <>
inline const Fields<CrossEntropyUpstream> kFields<CrossEntropyUpstream> = {field<&CrossEntropyUpstream::loss>("loss")};

template <>
inline const Fields<NeighbourProblem> kFields<NeighbourProblem> = {field<&NeighbourProblem::features>("features")};

template <>
inline const Fields<NeighbourResult> kFields<NeighbourResult> = {field<&NeighbourResult::products>("products")};

template <>
inline const Fields<NeighbourUpstream> kFields<NeighbourUpstream> = {field<&NeighbourUpstream::products>("products")};

template <>
inline const Fields<NeighbourGradients> kFields<NeighbourGradients> = {field<&NeighbourGradients::features>("features")};

template <>
inline const Fields<UpsampledProblem> kFields<UpsampledProblem> = {
    field<&UpsampledProblem::scores>("scores"),
    field<&UpsampledProblem::products>("products"),
    field<&UpsampledProblem::temperature>("temperature"),
    field<&UpsampledProblem::rows>("rows"),
    field<&UpsampledProblem::metric>("metric"),
    field<&UpsampledProblem::localization>("localization"),
    field<&UpsampledProblem::height>("height"),
    field<&UpsampledProblem::width>("width"),
    field<&UpsampledProblem::score_budget>("score_budget"),
};

template <>
inline const Fields<UpsampledGradients> kFields<UpsampledGradients> = {
    field<&UpsampledGradients::scores>("scores"),
    field<&UpsampledGradients::products>("products"),
    field<&UpsampledGradients::temperature>("temperature"),
};

template <>
inline const Fields<CorrelationProblem> kFields<CorrelationProblem> = {
    field<&CorrelationProblem::queries>("queries"),
    field<&CorrelationProblem::target>("target"),
    field<&CorrelationProblem::coords>("coords"),
    field<&CorrelationProblem::offsets>("offsets"),
    field<&CorrelationProblem::rows>("rows"),
    field<&CorrelationProblem::sampling>("sampling"),
    field<&CorrelationProblem::metric>("metric"),
    field<&CorrelationProblem::radius_y>("radius_y"),
    field<&CorrelationProblem::radius_x>("radius_x"),
    field<&CorrelationProblem::scale>("scale"),
};

template <>
inline const Fields<CorrelationResult> kFields<CorrelationResult> = {
    field<&CorrelationResult::correlation>("correlation"),
};

template <>
inline const Fields<CorrelationUpstream> kFields<CorrelationUpstream> = {
    field<&CorrelationUpstream::correlation>("correlation"),
};

template <>
inline const Fields<CorrelationGradients> kFields<CorrelationGradients> = {
    field<&CorrelationGradients::queries>("queries"),
    field<&CorrelationGradients::target>("target"),
    field<&CorrelationGradients::coords>("coords"),
};

}  // namespace simplematch::python

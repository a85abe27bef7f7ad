// The fields of each record that Python sets, one line a field.
#pragma once

#include "records.h"

namespace simplematch::python {

template <>
inline const Fields<AffineMap>& fields_of() {
    static const Fields<AffineMap> list = {
        field<&AffineMap::numerator>("numerator"),
        field<&AffineMap::shift>("shift"),
        field<&AffineMap::denominator>("denominator"),
    };
    return list;
}

template <>
inline const Fields<Sampling>& fields_of() {
    static const Fields<Sampling> list = {
        field<&Sampling::to_cells_x>("to_cells_x"),
        field<&Sampling::to_cells_y>("to_cells_y"),
        field<&Sampling::mode>("mode"),
        field<&Sampling::padding>("padding"),
    };
    return list;
}

template <>
inline const Fields<Metric>& fields_of() {
    static const Fields<Metric> list = {
        field<&Metric::kind>("kind"),
        field<&Metric::clamp_eps>("clamp_eps"),
        field<&Metric::eps>("eps"),
    };
    return list;
}

template <>
inline const Fields<Window>& fields_of() {
    static const Fields<Window> list = {
        field<&Window::height>("height"),
        field<&Window::width>("width"),
        field<&Window::shift>("shift"),
        field<&Window::disc>("disc"),
        field<&Window::outside_value>("outside_value"),
        field<&Window::sigma>("sigma"),
    };
    return list;
}

template <>
inline const Fields<Localization>& fields_of() {
    static const Fields<Localization> list = {
        field<&Localization::window>("window"),
        field<&Localization::temperature>("temperature"),
        field<&Localization::from_cells_x>("from_cells_x"),
        field<&Localization::from_cells_y>("from_cells_y"),
        field<&Localization::output_offset>("output_offset"),
    };
    return list;
}

template <>
inline const Fields<Device>& fields_of() {
    static const Fields<Device> list = {
        field<&Device::kind>("kind"),
        field<&Device::index>("index"),
        field<&Device::threads>("threads"),
        field<&Device::stream>("stream"),
    };
    return list;
}

template <>
inline const Fields<Rows>& fields_of() {
    static const Fields<Rows> list = {
        field<&Rows::num_keypoints>("num_keypoints"),
        field<&Rows::valid>("valid"),
        field<&Rows::target_mask>("target_mask"),
    };
    return list;
}

template <>
inline const Fields<MatchProblem>& fields_of() {
    static const Fields<MatchProblem> list = {
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
    return list;
}

template <>
inline const Fields<Matches>& fields_of() {
    static const Fields<Matches> list = {
        field<&Matches::keypoints>("keypoints"),
        field<&Matches::score>("score"),
        field<&Matches::peak>("peak"),
        field<&Matches::log_sum_exp>("log_sum_exp"),
    };
    return list;
}

template <>
inline const Fields<MatchResult>& fields_of() {
    static const Fields<MatchResult> list = {
        field<&MatchResult::matches>("matches"),
        field<&MatchResult::target_norm>("target_norm"),
        field<&MatchResult::window_scores>("window_scores"),
    };
    return list;
}

template <>
inline const Fields<Upstream>& fields_of() {
    static const Fields<Upstream> list = {
        field<&Upstream::keypoints>("keypoints"),
        field<&Upstream::score>("score"),
        field<&Upstream::log_sum_exp>("log_sum_exp"),
    };
    return list;
}

template <>
inline const Fields<MatchGradients>& fields_of() {
    static const Fields<MatchGradients> list = {
        field<&MatchGradients::source>("source"),
        field<&MatchGradients::keypoints>("keypoints"),
        field<&MatchGradients::target>("target"),
        field<&MatchGradients::temperature>("temperature"),
    };
    return list;
}

template <>
inline const Fields<LocalizeProblem>& fields_of() {
    static const Fields<LocalizeProblem> list = {
        field<&LocalizeProblem::scores>("scores"),
        field<&LocalizeProblem::temperature>("temperature"),
        field<&LocalizeProblem::rows>("rows"),
        field<&LocalizeProblem::localization>("localization"),
    };
    return list;
}

template <>
inline const Fields<LocalizeGradients>& fields_of() {
    static const Fields<LocalizeGradients> list = {
        field<&LocalizeGradients::scores>("scores"),
        field<&LocalizeGradients::temperature>("temperature"),
    };
    return list;
}

template <>
inline const Fields<GatherProblem>& fields_of() {
    static const Fields<GatherProblem> list = {
        field<&GatherProblem::features>("features"),
        field<&GatherProblem::keypoints>("keypoints"),
        field<&GatherProblem::sampling>("sampling"),
    };
    return list;
}

template <>
inline const Fields<GatherResult>& fields_of() {
    static const Fields<GatherResult> list = {field<&GatherResult::descriptors>("descriptors")};
    return list;
}

template <>
inline const Fields<GatherUpstream>& fields_of() {
    static const Fields<GatherUpstream> list = {field<&GatherUpstream::descriptors>("descriptors")};
    return list;
}

template <>
inline const Fields<GatherGradients>& fields_of() {
    static const Fields<GatherGradients> list = {
        field<&GatherGradients::features>("features"),
        field<&GatherGradients::keypoints>("keypoints"),
    };
    return list;
}

template <>
inline const Fields<SimilarityProblem>& fields_of() {
    static const Fields<SimilarityProblem> list = {
        field<&SimilarityProblem::descriptors>("descriptors"),
        field<&SimilarityProblem::target>("target"),
        field<&SimilarityProblem::metric>("metric"),
        field<&SimilarityProblem::score_budget>("score_budget"),
    };
    return list;
}

template <>
inline const Fields<SimilarityResult>& fields_of() {
    static const Fields<SimilarityResult> list = {
        field<&SimilarityResult::scores>("scores"),
        field<&SimilarityResult::target_norm>("target_norm"),
    };
    return list;
}

template <>
inline const Fields<SimilarityUpstream>& fields_of() {
    static const Fields<SimilarityUpstream> list = {field<&SimilarityUpstream::scores>("scores")};
    return list;
}

template <>
inline const Fields<SimilarityGradients>& fields_of() {
    static const Fields<SimilarityGradients> list = {
        field<&SimilarityGradients::descriptors>("descriptors"),
        field<&SimilarityGradients::target>("target"),
    };
    return list;
}

}  // namespace simplematch::python

// The steps of match_all beside its two loops, and their table.
#include "tile_scores.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

template <class T>
void match(const MatchAllWork<T>&);
template <class T>
void score_gradients(const ScoreGradientWork<T>&);
template <class T>
void sum_for_rows(const LineSums<T>&);
template <class T>
void sum_for_columns(const LineSums<T>&);
template <class T>
void sum_signs(const ChunkSigns<T>&);

namespace {

template <class T>
double measure(const VectorSet<T>& set, int64_t first, T* scratch) {
    double greatest = 0;
    with_storage_of(set, [&](auto* type) {
        using S = typename std::remove_pointer<decltype(type)>::type;
        greatest = measure_panel<T, S>(set, first, scratch);
    });
    return greatest;
}

template <class T>
void pack_lines(const VectorSet<T>& set, int64_t first, T* lines, int64_t stride, T* scratch) {
    pack_panel<T, kPanelColumns<T>>(set, first, scratch);
    lines_of_panel(scratch, set.channels(), lines, stride);
}

template <class T, class S>
void add_line_of(const VectorSet<T>& set, int64_t i, T weight, T* sum) {
    const S* const from = static_cast<const S*>(set.view.data) + set.offset(i);
    const int64_t channels = set.channels(), step = set.view.stride[1];
    const uint8_t mark = set.mark[i];
    if (mark == kOrdinary) {
        const T factor = set.factor == nullptr ? T(1) : set.factor[i];
        const auto value = [&](T x, int64_t c) { return set.centre == nullptr ? x * factor : x - set.centre[c]; };
        if (step == 1) {
            for (int64_t c = 0; c < channels; ++c) sum[c] += weight * value(T(to_float(from[c])), c);
        } else {
            for (int64_t c = 0; c < channels; ++c) sum[c] += weight * value(T(to_float(from[c * step])), c);
        }
    } else {
        double square = 0;
        for (int64_t c = 0; c < channels; ++c) square += double(to_float(from[c * step])) * double(to_float(from[c * step]));
        const double factor = mark == kScaled ? 1 / denominator(__builtin_sqrt(square), set.metric) : 1.0;
        for (int64_t c = 0; c < channels; ++c) {
            const double x = double(to_float(from[c * step]));
            const double middle = set.centre == nullptr ? 0.0 : double(set.centre[c]);
            sum[c] += weight * (x - x == 0 ? T((x - middle) * factor) : T(0));
        }
    }
    sum[channels] += weight;
}

template <class T>
void add_line(const VectorSet<T>& set, int64_t i, T weight, T* sum) {
    with_storage_of(set, [&](auto* type) {
        add_line_of<T, typename std::remove_pointer<decltype(type)>::type>(set, i, weight, sum);
    });
}

template <class T>
void add_signs(const VectorSet<T>& set, int64_t i, const VectorSet<T>& other, int64_t j, T weight, T* sum) {
    with_storage_of(set, [&](auto* type) {
        using S = typename std::remove_pointer<decltype(type)>::type;
        const S* const x = static_cast<const S*>(set.view.data) + set.offset(i);
        const S* const y = static_cast<const S*>(other.view.data) + other.offset(j);
        for (int64_t c = 0; c < set.channels(); ++c) {
            const T from = T(to_float(x[c * set.view.stride[1]])), to = T(to_float(y[c * other.view.stride[1]]));
            sum[c] += weight * T((to > from) - (to < from));
        }
    });
}

}  // namespace

template <class T>
MatchAllSteps<T> match_all_steps() {
    return {kPanelRows, kPanelColumns<T>, kLanes<T>, measure<T>, pack_panel<T, kPanelRows>, pack_lines<T>, add_line<T>,
            separate_score<T>, match<T>, score_gradients<T>, sum_for_rows<T>, sum_for_columns<T>,
            sum_signs<T>, add_signs<T>};
}

template MatchAllSteps<float> match_all_steps<float>();
template MatchAllSteps<double> match_all_steps<double>();

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL

// The table of steps of one instruction set.
#include "kernels.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

template <class T>
void similarity(const SimilarityWork<T>&, int64_t, int64_t, T*);
template <class T>
void norms(const T*, int64_t, int64_t, int64_t, T*);
template <class T>
void to_units(T*, int64_t, int64_t, int64_t, const T*, const Metric&);
template <class T>
RowResult localize(const RowWork<T>&);
template <class T>
void localize_backward(const RowWork<T>&, RowGradient<T>&);
template <class T>
Covariance covariance(const RowWork<T>&, int64_t);
template <class T>
SecondBest second_best(const RowWork<T>&, const Window&, int64_t);
template <class T>
uint64_t localize_small(const SmallMaps<T>&, RowResult*);
template <class T>
uint64_t localize_small_backward(const SmallMaps<T>&, const RowGradient<T>*);
template <class T>
void read_side_by_side(const SideBySide<const T>&, T*, int64_t);
template <class T>
void write_side_by_side(const SideBySide<T>&, const T*, int64_t);
template <class T>
RowSums sum_row(const T*, const T*, int64_t);
template <class T>
void copy_row(const T*, const T*, int64_t, T*);
template <class T>
void weights(const WeightWork<T>&, int64_t, int64_t);
template <class T>
void target_and_query_backward(const GradientWork<T>&, int64_t, int64_t, int64_t, T*);
template <class T>
void neighbour_products(const View&, int64_t, int64_t, double*, T*);
template <class T>
void neighbour_products_backward(const View&, const double*, const View&, int64_t, int64_t, T*);
template <class T>
void upsample(const Upsampling<T>&, const T*, T*, T*);
template <class T>
void upsample_backward(const Upsampling<T>&, const Box&, const T*, T*, T*, T*);
template <class T>
void upsampled_terms(const Upsampling<T>&, const Metric&, int64_t, T*, double*);
template <class T>
void upsampled_terms_backward(const Upsampling<T>&, const Metric&, int64_t, const T*, double*, double*);

template <class T>
MatchAllSteps<T> match_all_steps();

template <class T>
CorrelationSteps<T> correlation_steps();

PairSteps pair_steps();

template <class T>
const Kernels<T>& kernels() {
    static const Kernels<T> table = {
        similarity<T>, norms<T>, to_units<T>, localize<T>, localize_backward<T>, covariance<T>, second_best<T>,
        localize_small<T>, localize_small_backward<T>, read_side_by_side<T>, write_side_by_side<T>, sum_row<T>, copy_row<T>,
        weights<T>, target_and_query_backward<T>, match_all_steps<T>(), neighbour_products<T>,
        neighbour_products_backward<T>, upsample<T>, upsample_backward<T>, upsampled_terms<T>, upsampled_terms_backward<T>,
        correlation_steps<T>(), pair_steps()};
    return table;
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL

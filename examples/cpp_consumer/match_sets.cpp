// Finds the mutual nearest neighbours of two sets of descriptors:
//
//     match_sets a.npy b.npy [ratio]
//
// a (N, C) and b (M, C), float32, in C or Fortran order. Descriptors a_n and b_m are a pair if each is the nearest of the
// other, by Euclidean distance. With a ratio, both must also pass Lowe's test: their distance is at most `ratio` times that
// to the second nearest. Prints a line "n -> m distance" for each pair.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>

#include "npy.h"
#include "simplematch/simplematch.hpp"

namespace {

// (N, C) as the library's list of descriptors, a map (1, C, 1, N)
simplematch_tensor set_of(const Array& a, const char* name) {
    if (a.shape.size() != 2) throw std::runtime_error(std::string(name) + " must have shape (N, C)");
    return simplematch::tensor(a.data.data(), {1, a.shape[1], 1, a.shape[0]}, {0, a.stride[1], 0, a.stride[0]});
}

// What match_all finds for one of the sets; scores are minus squared distances.
struct Side {
    std::vector<int64_t> index;
    std::vector<float> score, second, norm;
    explicit Side(int64_t count)
        : index(size_t(count)), score(size_t(count)), second(size_t(count)), norm(size_t(count)) {}

    bool passes(size_t i, double ratio) const { return score[i] >= ratio * ratio * second[i]; }
};

void match(const char* path_a, const char* path_b, const char* ratio) {
    const Array a = read_npy(path_a), b = read_npy(path_b);
    simplematch_match_all_problem problem = simplematch_match_all_problem_default();
    problem.a = set_of(a, "a");
    problem.b = set_of(b, "b");
    problem.metric.kind = SIMPLEMATCH_L2;

    Side of_a(a.shape[0]), of_b(b.shape[0]);
    std::vector<uint8_t> mutual(of_a.index.size());
    simplematch_match_all_result result = {};
    result.index_a = of_a.index.data();
    result.score_a = of_a.score.data();
    result.norm_a = of_a.norm.data();
    result.index_b = of_b.index.data();
    result.score_b = of_b.score.data();
    result.norm_b = of_b.norm.data();
    result.mutual = mutual.data();
    if (ratio) {  // else the second best are not computed
        result.second_a = of_a.second.data();
        result.second_b = of_b.second.data();
    }
    simplematch::check(simplematch_match_all(&problem, &result, nullptr));

    const double most = ratio ? std::atof(ratio) : 0.0;
    for (size_t n = 0; n < mutual.size(); ++n) {
        const int64_t m = of_a.index[n];
        if (!mutual[n] || (ratio && !(of_a.passes(n, most) && of_b.passes(size_t(m), most)))) continue;
        std::printf("%zu -> %lld %.4f\n", n, static_cast<long long>(m), std::sqrt(-double(of_a.score[n])));
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::fprintf(stderr, "usage: %s a.npy b.npy [ratio]\n", arguments[0]);
        return 2;
    }
    try {
        match(arguments[1], arguments[2], count > 3 ? arguments[3] : nullptr);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}

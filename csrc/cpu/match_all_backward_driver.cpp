#include <stdexcept>

#include "cpu/run.h"

namespace simplematch::cpu {

void run_backward(const MatchAllProblem&, const MatchAllResult&, const MatchAllUpstream&, const MatchAllGradients&, int) {
    throw std::runtime_error("match_all is not on the CPU");
}

}  // namespace simplematch::cpu

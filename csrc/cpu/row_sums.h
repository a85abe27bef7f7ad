// Rows of gradients of scores, as they arrive at the backward of the similarity.
#pragma once

namespace simplematch::cpu {

// Of a row of gradients ds: the sums of ds and of ds * s, and whether all are finite where ds is not 0.
struct RowSums {
    double sum, with_score;
    bool finite;
};

}  // namespace simplematch::cpu

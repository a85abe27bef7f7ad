// match_all: the scores of blocks of rows, as `similarity` makes them, then the results of both sides from them.
//
// Best, second and log-sum-exp of a row are final when its block is done; those of a column are carried from block to
// block. Bytes: 4 N M of scores written and read four times, out of L2 for blocks that fit it; N and M numbers of results.
#include "match_all.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 32, kSlices = 8;  // of a block of `columns_kernel`

// The score of which key is the `ordered` form; -inf where there is none.
__device__ inline float value_of(int64_t key, float) {
    if (key == kNoKey) return -infinity<float>();
    const int32_t bits = int32_t(key);
    return __int_as_float(bits < 0 ? bits ^ 0x7fffffff : bits);
}
__device__ inline double value_of(int64_t key, double) {
    return key == kNoKey ? -infinity<double>() : __longlong_as_double(key < 0 ? key ^ INT64_MAX : key);
}

// What is known of a row or column: the greatest key, where it is, and the second greatest; and the sum of exponentials,
// counted from the greatest score.
template <class T>
struct Known {
    int64_t top, second;
    T total;
    int32_t index;

    static __device__ Known none() { return {kNoKey, kNoKey, T(0), -1}; }

    // What exponents count from.
    __device__ T anchor() const {
        const T value = value_of(top, T());
        return is_finite(value) ? value : T(0);
    }

    __device__ void see(int64_t key, int32_t place) {
        if (key > top || (key == top && place < index)) {
            second = top, top = key, index = place;
        } else if (key > second) {
            second = key;
        }
    }
};

template <class T>
__device__ inline T exponential(T score, T from, T temperature) {
    return score == -infinity<T>() ? T(0) : exp((score - from) / temperature);
}

// Two of the same row or column, without their sums.
template <class T>
__device__ inline Known<T> merged(const Known<T>& x, const Known<T>& y) {
    const bool later = y.top > x.top || (y.top == x.top && y.index < x.index && y.top != kNoKey);
    const int64_t top = later ? x.top : y.top;  // of the other; values, because references would lie in local memory
    Known<T> winner = x;
    if (later) winner = y;
    winner.second = top > winner.second ? top : winner.second;
    return winner;
}

struct Arguments {
    MatchAllProblem p;
    MatchAllResult result;
    Block block;
    const void* scores;  // (B, count, M) of the block
    void* known;         // (B, M) of Known, of the columns in the blocks before
    int64_t cells;
    bool last;
};

// The results of one row or column.
template <class T>
__device__ void finish(const MatchAllProblem& p, Known<T> x, bool part, int64_t b, int64_t at, int64_t* index, void* score,
                       void* log_sum_exp, void* second) {
    const bool found = part && x.top != kNoKey;
    index[at] = found ? x.index : -1;
    static_cast<T*>(score)[at] = found ? value_of(x.top, T()) : T(0);
    if (second != nullptr) static_cast<T*>(second)[at] = found ? value_of(x.second, T()) : T(0);
    if (log_sum_exp == nullptr) return;
    const T temperature = number_of<T>(p.temperature, p.fixed_temperature, b);
    T result = 0;
    if (part && (found || has_bin(p))) {
        Known<T> all = x;
        if (has_bin(p)) {
            const T bin = number_of<T>(p.bin_score, p.fixed_bin_score, b);
            if (const int64_t key = ordered(bin); key > all.top) all.top = key;
            if (all.total != 0) all.total *= exp((x.anchor() - all.anchor()) / temperature);
            all.total += exponential(bin, all.anchor(), temperature);
        }
        const T largest = value_of(all.top, T());
        result = largest / temperature;
        if (is_finite(largest)) result += log(all.total);
        if (!(temperature > 0)) result = not_a_number<T>();
    }
    static_cast<T*>(log_sum_exp)[at] = result;
}

// Block = one row.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) rows_kernel(Arguments a) {
    __shared__ Known<T> slots[kThreads];
    __shared__ double memory[kThreads / kWarp * 2];
    const int64_t b = blockIdx.x / a.block.count, local = blockIdx.x % a.block.count, n = a.block.first + local;
    const T* const row = static_cast<const T*>(a.scores) + (b * a.block.count + local) * a.cells;
    Known<T> known = Known<T>::none();
    const bool part = is_valid(a.p.rows_a, b, n, a.block.total);
    if (part)
        for (int64_t m = threadIdx.x; m < a.cells; m += kThreads)
            if (is_valid(a.p.rows_b, b, m, a.cells)) known.see(ordered(row[m]), int32_t(m));
    slots[threadIdx.x] = known;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
        if (int(threadIdx.x) < half) slots[threadIdx.x] = merged(slots[threadIdx.x], slots[threadIdx.x + half]);
        __syncthreads();
    }
    known = slots[0];
    if (a.result.log_sum_exp_a != nullptr) {
        const T temperature = number_of<T>(a.p.temperature, a.p.fixed_temperature, b), from = known.anchor();
        T total = 0;
        if (part)
            for (int64_t m = threadIdx.x; m < a.cells; m += kThreads)
                if (is_valid(a.p.rows_b, b, m, a.cells)) total += exponential(row[m], from, temperature);
        known.total = sum_of_block<kThreads>(total, memory);
    }
    if (threadIdx.x > 0) return;
    const int64_t at = b * a.block.total + n;
    const MatchAllResult& r = a.result;
    finish(a.p, known, part, b, at, r.index_a, r.score_a, r.log_sum_exp_a, r.second_a);
    r.mutual[at] = 0;
}

// Block = 32 columns of one image, each of 8 slices of rows to a warp.
template <class T>
__global__ void __launch_bounds__(kColumns * kSlices, 1) columns_kernel(Arguments a) {
    __shared__ Known<T> slots[kSlices][kColumns];
    __shared__ T sums[kSlices][kColumns];
    const int lane = threadIdx.x % kColumns, slice = threadIdx.x / kColumns;
    const int64_t tiles = tiles_of(a.cells, kColumns), b = blockIdx.x / tiles, m = blockIdx.x % tiles * kColumns + lane;
    const bool inside = m < a.cells, part = inside && is_valid(a.p.rows_b, b, m, a.cells);
    const T* const column = static_cast<const T*>(a.scores) + b * a.block.count * a.cells + m;
    Known<T> known = Known<T>::none();
    if (part)
        for (int64_t i = slice; i < a.block.count; i += kSlices)
            if (is_valid(a.p.rows_a, b, a.block.first + i, a.block.total))
                known.see(ordered(column[i * a.cells]), int32_t(a.block.first + i));
    slots[slice][lane] = known;
    __syncthreads();
    known = slots[0][lane];
    for (int other = 1; other < kSlices; ++other) known = merged(known, slots[other][lane]);
    Known<T>* const carried = static_cast<Known<T>*>(a.known) + b * a.cells + m;
    Known<T> before = Known<T>::none();
    if (inside && a.block.first > 0) before = *carried, known = merged(before, known);
    if (a.result.log_sum_exp_b != nullptr) {
        const T temperature = number_of<T>(a.p.temperature, a.p.fixed_temperature, b), from = known.anchor();
        T total = 0;
        if (part)
            for (int64_t i = slice; i < a.block.count; i += kSlices)
                if (is_valid(a.p.rows_a, b, a.block.first + i, a.block.total))
                    total += exponential(column[i * a.cells], from, temperature);
        sums[slice][lane] = total;
        __syncthreads();
        known.total = before.total == 0 ? T(0) : before.total * exp((before.anchor() - from) / temperature);
        for (int other = 0; other < kSlices; ++other) known.total += sums[other][lane];
    }
    __syncthreads();  // all have read what is carried
    if (!inside || slice > 0) return;
    if (!a.last) {
        *carried = known;
        return;
    }
    const int64_t at = b * a.cells + m;
    const MatchAllResult& r = a.result;
    finish(a.p, known, part, b, at, r.index_b, r.score_b, r.log_sum_exp_b, r.second_b);
    if (!part || known.index < 0) return;
    const int64_t partner = b * a.block.total + known.index;
    if (r.index_a[partner] == m) r.mutual[partner] = 1;
}

// What is left where a set is empty. Block = 128 descriptors of one side.
struct WithoutCandidates {
    MatchAllProblem p;
    MatchAllResult result;
    int64_t count;
    bool of_a;
};
template <class T>
__global__ void __launch_bounds__(kThreads, 1) without_candidates_kernel(WithoutCandidates a) {
    const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (at >= a.p.a.size[0] * a.count) return;
    const int64_t b = at / a.count;
    const MatchAllResult& r = a.result;
    const bool part = is_valid(a.of_a ? a.p.rows_a : a.p.rows_b, b, at % a.count, a.count);
    finish(a.p, Known<T>::none(), part, b, at, a.of_a ? r.index_a : r.index_b, a.of_a ? r.score_a : r.score_b,
           a.of_a ? r.log_sum_exp_a : r.log_sum_exp_b, a.of_a ? r.second_a : r.second_b);
    if (a.of_a) r.mutual[at] = 0;
}

struct ListCells {
    int64_t width, count;
    double* points;
};
__global__ void list_cells_kernel(ListCells a) {
    const int64_t n = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (n < a.count) a.points[2 * n] = double(n % a.width), a.points[2 * n + 1] = double(n / a.width);
}

struct Plan {
    SetPlan set;
    void* known;

    Plan(const MatchAllProblem& p, Workspace& workspace) : set(p, 1, workspace) {
        const int64_t item = set.item == 8 ? int64_t(sizeof(Known<double>)) : int64_t(sizeof(Known<float>));
        known = set.most < set.count ? workspace.take(set.images * set.cells * item) : nullptr;
    }
};

template <class T>
void run_as(const MatchAllProblem& p, const MatchAllResult& result, const Plan& plan, Stream stream) {
    const SetPlan& set = plan.set;
    if (set.empty()) {
        for (const bool of_a : {true, false}) {
            const int64_t count = of_a ? set.count : set.cells;
            launch(without_candidates_kernel<T>, tiles_of(set.images * count, kThreads), kThreads,
                   WithoutCandidates{p, result, count, of_a}, stream, "match_all");
        }
        return;
    }
    if (!set.is_row) list_cells(p.a, set.points, stream);
    for (int64_t first = 0; first < set.count; first += set.most) {
        const Block block = set.block(first);
        set.run(p, block, stream);
        const Arguments arguments{p, result, block, set.scores, plan.known, set.cells, first + block.count == set.count};
        launch(rows_kernel<T>, set.images * block.count, kThreads, arguments, stream, "match_all");
        launch(columns_kernel<T>, set.images * tiles_of(set.cells, kColumns), kColumns * kSlices, arguments, stream, "match_all");
    }
}

}  // namespace

void list_cells(const View& map, void* points, Stream stream) {
    const ListCells arguments{map.size[3], cells_of(map), static_cast<double*>(points)};
    launch(list_cells_kernel, tiles_of(arguments.count, kThreads), kThreads, arguments, stream, "match_all");
}

int64_t workspace(const MatchAllProblem& problem, const Device&) {
    Workspace workspace(nullptr);
    const Plan plan(problem, workspace);
    return workspace.used();
}

void run(const MatchAllProblem& p, const MatchAllResult& result, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const Plan plan(p, workspace);
    norms(p.a, result.norm_a, stream);
    norms(p.b, result.norm_b, stream);
    with_arithmetic(plan.set.dtype,
                    [&](auto* type) { run_as<std::remove_pointer_t<decltype(type)>>(p, result, plan, stream); });
}

}  // namespace simplematch::cuda

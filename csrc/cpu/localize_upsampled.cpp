// localize_upsampled: every thread holds the fine scores of one query at a time.
//
// The backward computes them again. What the queries of a block leave, their ds and their coarse gradients, is summed over
// queries in their order, each cell by one thread, so that results don't depend on the number of threads.
#include <algorithm>

#include "common/metric.h"
#include "localization.h"
#include "rows.h"

namespace simplematch::cpu {
namespace {

constexpr int64_t kMostBytes = int64_t(16) << 20;

template <class T>
class AxisTable {
public:
    AxisTable(int64_t cells, int64_t fine)
        : cells_(cells), fine_(fine), low_(fine), first_(cells + 1), weight_(fine), exact_(fine) {
        int64_t next = 0;
        for (int64_t j = 0; j < fine; ++j) {  // (j + 1/2) cells / fine - 1/2, clamped to the map
            const int64_t at = least_of(most_of((2 * j + 1) * cells - fine, 0), (cells - 1) * 2 * fine);
            low_[j] = at / (2 * fine);
            exact_[j] = double(at % (2 * fine)) / double(2 * fine);
            weight_[j] = T(exact_[j]);
            while (next <= low_[j]) first_[next++] = j;
        }
        while (next <= cells) first_[next++] = fine;
    }
    UpsampledAxis<T> view() const { return {cells_, fine_, low_.get(), first_.get(), weight_.get(), exact_.get()}; }

private:
    int64_t cells_, fine_;
    Buffer<int64_t> low_, first_;
    Buffer<T> weight_;
    Buffer<double> exact_;
};

template <class T>
struct Work {
    const UpsampledProblem& p;
    const Kernels<T>& steps;
    const int64_t batch, count, coarse, fine;
    const AxisTable<T> y, x;
    const RowTable table;
    const StripTable<T> strip;

    Work(const UpsampledProblem& problem)
        : p(problem), steps(kernels<T>()), batch(p.scores.size[0]), count(p.scores.size[1]), coarse(cells_of(p.scores)),
          fine(p.height * p.width), y(p.scores.size[2], p.height), x(p.scores.size[3], p.width),
          table(list_rows(p.rows, batch, count, p.height, p.width, outside_of(p.localization, false))),
          strip(p.height, p.width) {}

    int32_t kind() const { return p.products == nullptr ? int32_t(SIMPLEMATCH_DOT) : p.metric.kind; }
    int threads(int wanted) const { return threads_for(wanted, double(batch) * double(count) * double(fine) * 4); }
    // Bytes of what the queries of a block leave, and of the terms of images.
    int64_t budget() const { return std::min(kMostBytes, p.score_budget); }
    int64_t images_at_a_time() const {
        return std::max<int64_t>(1, std::min(batch, budget() / (fine * int64_t(sizeof(T)))));
    }
    Upsampling<T> image(int64_t b, const T* terms) const {
        return {y.view(), x.view(), kind(), p.products == nullptr ? nullptr : p.products + b * 5 * coarse, terms};
    }
    T norm(int64_t b, int64_t i) const {  // D(f_i)
        return T(denominator(__builtin_sqrt(p.products[b * 5 * coarse + i]), p.metric));
    }

    // Of each thread, for the terms of a row of fine cells and their gradient.
    int64_t wide_numbers() const { return kind() == SIMPLEMATCH_DOT ? 0 : 3 * p.scores.size[3] + 1; }

    // Called by all threads of a team: the terms of images [b, b + images), and D(f) for the cosine.
    void prepare(int64_t b, int64_t images, T* terms, T* norms, double* wide) const {
        if (kind() == SIMPLEMATCH_DOT) return;
#pragma omp for schedule(static)
        for (int64_t row = 0; row < images * p.height; ++row) {
            const int64_t i = row / p.height, here = row % p.height;
            steps.upsampled_terms(image(b + i, nullptr), p.metric, here, terms + row * p.width, wide);
        }
        if (kind() != SIMPLEMATCH_COSINE) return;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < images; ++i)
            for (int64_t m = 0; m < coarse; ++m) norms[i * coarse + m] = norm(b + i, m);
    }

    int64_t scratch_numbers() const {
        return 2 * round_up(coarse, kTile) + round_up(fine, kTile) + 2 * round_up(p.width, kTile) +
               row_scratch(p.height, p.width);
    }
    // The fine scores of query n, in `scratch`; `rest` becomes what is left of it.
    const T* scores(int64_t b, int64_t n, const Upsampling<T>& u, const T* norms, T* scratch, T** rest) const {
        const T* from = contiguous_row(p.scores, b, n, scratch);
        T* const scaled = scratch + round_up(coarse, kTile);
        T* const result = scaled + round_up(coarse, kTile);
        *rest = result + round_up(fine, kTile);
        if (u.kind == SIMPLEMATCH_COSINE) {
            for (int64_t m = 0; m < coarse; ++m) scaled[m] = from[m] * norms[m];
            from = scaled;
        }
        steps.upsample(u, from, result, *rest);
        return result;
    }
    RowWork<T> row(int64_t b, int64_t n, const T* scores, T* scratch) const {
        return {p.height, p.width, p.localization.window, scores, p.width,
                table.mask(b, n), table.totals_of(b, n),
                T(temperature_of(p.temperature, p.localization, b, n)), scratch, strip.view()};
    }
};

template <class T>
void localize_all(const UpsampledProblem& p, const Matches& matches, int wanted_threads) {
    const Work<T> work(p);
    if (work.batch * work.count == 0) return;
    const int threads = work.threads(wanted_threads);
    const int64_t most = work.images_at_a_time();
    const bool has_terms = work.kind() != SIMPLEMATCH_DOT;
    const Buffer<T> terms(has_terms ? most * work.fine : 0), norms(has_terms ? most * work.coarse : 0);
    const ThreadScratch<T> scratch(threads, work.scratch_numbers());
    const ThreadScratch<double> wide(threads, work.wide_numbers());
    for (int64_t b = 0; b < work.batch; b += most) {
        const int64_t images = std::min(most, work.batch - b);
#pragma omp parallel num_threads(threads) if (threads > 1)
        {
            work.prepare(b, images, terms.get(), norms.get(), wide.mine());
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < images * work.count; ++task) {
                const int64_t i = task / work.count, n = task % work.count, at = (b + i) * work.count + n;
                if (!work.table.valid[at]) {
                    write_invalid<T>(matches, at);
                    continue;
                }
                T* rest;
                const Upsampling<T> u = work.image(b + i, terms.get() + i * work.fine);
                const T* const fine = work.scores(b + i, n, u, norms.get() + i * work.coarse, scratch.mine(), &rest);
                write_match<T>(matches, at, work.steps.localize(work.row(b + i, n, fine, rest)),
                               maps_from_cells(p.localization, b + i, p.height, p.width), p.localization.output_offset);
            }
        }
    }
}

// What the queries of a block leave.
template <class T>
struct Block {
    int64_t first, images, queries;
    Buffer<T> gradients;  // (images, queries, box): ds, or ds s for the cosine
    Buffer<T> coarse;     // (images, queries, h w)
    Buffer<Box> boxes;    // (images, queries), empty in invalid rows
};

template <class T>
struct Backward {
    const Work<T>& work;
    const Matches& matches;
    const Upstream& upstream;
    const UpsampledGradients& wanted;
    const int64_t box_size;

    // Query (b + i, n) of the block.
    void run_query(Block<T>& block, int64_t b, int64_t i, int64_t k, const T* terms, const T* norms, T* scratch) const {
        const UpsampledProblem& p = work.p;
        const int64_t n = block.first + k, slot = i * block.queries + k;
        T* const coarse = block.coarse.get() + slot * work.coarse;
        block.boxes[slot] = {0, 0, 0, 0};
        if (!work.table.valid[(b + i) * work.count + n]) {
            std::fill(coarse, coarse + work.coarse, T(0));
            write_row_gradient(wanted.temperature, b + i, n, 0);
        } else {
            T* rest;
            const Upsampling<T> u = work.image(b + i, terms + i * work.fine);
            const T* const fine = work.scores(b + i, n, u, norms + i * work.coarse, scratch, &rest);
            RowGradient<T> gradient = upstream_of_row<T>(
                upstream, matches, work.count, maps_from_cells(p.localization, b + i, p.height, p.width), b + i, n);
            gradient.peak = matches.peak[(b + i) * work.count + n];
            gradient.only_scores = !is_given(wanted.temperature);
            const Box box = window_box(p.localization.window, gradient.peak, p.height, p.width);
            const T* const in_box = fine + box.top * p.width + box.left;
            gradient.scores = block.gradients.get() + slot * box_size;
            gradient.stride = box.right - box.left;
            block.boxes[slot] = box;
            work.steps.localize_backward(work.row(b + i, n, in_box, rest), gradient);
            write_row_gradient(wanted.temperature, b + i, n, gradient.temperature);
            work.steps.upsample_backward(u, box, in_box, gradient.scores, coarse, rest);
            if (u.kind == SIMPLEMATCH_COSINE)
                for (int64_t m = 0; m < work.coarse; ++m)
                    coarse[m] = coarse[m] == 0 ? T(0) : coarse[m] * norms[i * work.coarse + m];
        }
        if (is_given(wanted.scores)) write_row(wanted.scores, b + i, n, coarse);
    }

    // Called by all threads of a team: sums over the block's queries, of every fine and every coarse cell.
    void add(const Block<T>& block, int64_t b, T* fine_sums, double* coarse_sums) const {
        const int64_t width = work.p.width, columns = work.p.scores.size[3];
#pragma omp for schedule(static)
        for (int64_t task = 0; task < block.images * work.p.height; ++task) {
            const int64_t i = task / work.p.height, y = task % work.p.height;
            T* const sums = fine_sums + task * width;
            for (int64_t k = 0; k < block.queries; ++k) {
                const Box& box = block.boxes[i * block.queries + k];
                if (y < box.top || y >= box.bottom) continue;
                const int64_t count = box.right - box.left;
                const T* const row = block.gradients.get() + (i * block.queries + k) * box_size + (y - box.top) * count;
                for (int64_t x = 0; x < count; ++x) sums[box.left + x] += row[x];
            }
        }
        if (work.kind() != SIMPLEMATCH_COSINE) return;
#pragma omp for schedule(static)
        for (int64_t task = 0; task < block.images * work.p.scores.size[2]; ++task) {
            const int64_t i = task / work.p.scores.size[2], y = task % work.p.scores.size[2];
            for (int64_t k = 0; k < block.queries; ++k) {
                if (!work.table.valid[(b + i) * work.count + block.first + k]) continue;
                const T* const row = block.coarse.get() + (i * block.queries + k) * work.coarse + y * columns;
                for (int64_t x = 0; x < columns; ++x) {
                    if (row[x] == 0) continue;
                    const View& s = work.p.scores;
                    const double score = read_element(s, (b + i) * s.stride[0] + (block.first + k) * s.stride[1] +
                                                             y * s.stride[2] + x * s.stride[3]);
                    coarse_sums[task * columns + x] += double(row[x]) * score;
                }
            }
        }
    }

    // Called by all threads of a team: the products' gradient of image b from these sums; `squares`: H W numbers.
    void write_products(int64_t b, const T* fine_sums, const double* coarse_sums, double* squares, double* wide) const;
};

// dL/d of the five products of coarse row j, from dL/d|F|^2.
template <class T>
void gather_row(const UpsampledAxis<T>& y, const UpsampledAxis<T>& x, bool l2, int64_t j, const double* squares,
                double* products, double* scratch) {
    const int64_t width = x.cells, cells = y.cells * width;
    double *const own = products + j * width, *const rows = scratch;  // rows: of squares, of mixed products, of means
    for (int k = 0; k < 5; ++k) std::fill(own + k * cells, own + k * cells + width, 0.0);
    for (int64_t fine = y.first[j > 0 ? j - 1 : 0]; fine < y.first[j + 1]; ++fine) {
        const double w = y.exact_weight[fine], v = 1 - w;
        const bool is_low = y.low[fine] == j;
        if (!is_low && w == 0) continue;
        std::fill(rows, rows + 3 * width, 0.0);
        const double* const from = squares + fine * x.fine;
        for (int64_t c = 0; c < x.fine; ++c) {
            const double g = from[c], wx = x.exact_weight[c], vx = 1 - wx;
            if (g == 0) continue;
            double* const at = rows + x.low[c];
            at[0] += vx * vx * g;
            at[2 * width] -= vx * g;
            if (wx == 0) continue;
            at[1] += wx * wx * g;
            at[width] += 2 * vx * wx * g;
            at[2 * width + 1] -= wx * g;
        }
        const double weight = is_low ? v : w;
        for (int64_t i = 0; i < width; ++i) {
            own[i] += weight * weight * rows[i] + (l2 ? weight * rows[2 * width + i] : 0);
            own[cells + i] += weight * weight * rows[width + i];
            if (!is_low || w == 0) continue;
            own[2 * cells + i] += 2 * v * w * rows[i];
            own[3 * cells + i] += v * w * rows[width + i];
            own[4 * cells + i] += v * w * rows[width + i];
        }
    }
}

template <class T>
void Backward<T>::write_products(int64_t b, const T* fine_sums, const double* coarse_sums, double* squares,
                                 double* wide) const {
    const UpsampledProblem& p = work.p;
    const Upsampling<T> u = work.image(b, nullptr);
    double* const products = wanted.products + b * 5 * work.coarse;
#pragma omp for schedule(static)
    for (int64_t y = 0; y < p.height; ++y)
        work.steps.upsampled_terms_backward(u, p.metric, y, fine_sums + y * p.width, squares + y * p.width, wide);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < u.y.cells; ++j) {
        gather_row(u.y, u.x, u.kind == SIMPLEMATCH_L2, j, squares, products, wide);
        if (u.kind != SIMPLEMATCH_COSINE) continue;
        for (int64_t m = j * u.x.cells; m < (j + 1) * u.x.cells; ++m) {  // dD = sum / D, and d|f|^2 = dD / (2 |f|)
            const double g = coarse_sums[m], norm = __builtin_sqrt(u.products[m]);
            const bool moves = norm > 0 && !(p.metric.clamp_eps && norm < p.metric.eps);
            if (g != 0 && (moves || g != g)) products[m] += g / denominator(norm, p.metric) / (2 * norm);
        }
    }
}

template <class T>
void localize_all_backward(const UpsampledProblem& p, const Matches& matches, const Upstream& upstream,
                           const UpsampledGradients& wanted, int wanted_threads) {
    const Work<T> work(p);
    const bool has_terms = work.kind() != SIMPLEMATCH_DOT, sums = has_terms && wanted.products != nullptr;
    if (work.batch * work.count == 0) {
        if (wanted.products != nullptr) std::fill(wanted.products, wanted.products + work.batch * 5 * work.coarse, 0.0);
        return;
    }
    const int threads = work.threads(wanted_threads);
    const int64_t box_size = box_rows(p.localization.window, p.height) * box_columns(p.localization.window, p.width);
    const Backward<T> backward{work, matches, upstream, wanted, box_size};
    BlockSize most = block_size(work.batch, work.count, (box_size + work.coarse) * int64_t(sizeof(T)), work.budget());
    most.images = std::min(most.images, work.images_at_a_time());
    const int64_t slots = most.images * most.queries;
    Block<T> block{0, 0, 0, Buffer<T>(slots * box_size), Buffer<T>(slots * work.coarse), Buffer<Box>(slots)};
    const Buffer<T> terms(has_terms ? most.images * work.fine : 0), norms(has_terms ? most.images * work.coarse : 0);
    const Buffer<T> fine_sums(sums ? most.images * work.fine : 0);
    const Buffer<double> coarse_sums(sums ? most.images * work.coarse : 0), squares(sums ? work.fine : 0);
    const ThreadScratch<T> scratch(threads, work.scratch_numbers());
    const ThreadScratch<double> wide(threads, work.wide_numbers());
    for (int64_t b = 0; b < work.batch; b += most.images) {
        block.images = std::min(most.images, work.batch - b);
        if (sums) {
            std::fill(fine_sums.get(), fine_sums.get() + block.images * work.fine, T(0));
            std::fill(coarse_sums.get(), coarse_sums.get() + block.images * work.coarse, 0.0);
        }
        for (block.first = 0; block.first < work.count; block.first += most.queries) {
            block.queries = std::min(most.queries, work.count - block.first);
#pragma omp parallel num_threads(threads) if (threads > 1)
            {
                if (block.first == 0) work.prepare(b, block.images, terms.get(), norms.get(), wide.mine());
#pragma omp for schedule(dynamic)
                for (int64_t task = 0; task < block.images * block.queries; ++task)
                    backward.run_query(block, b, task / block.queries, task % block.queries, terms.get(), norms.get(),
                                       scratch.mine());
                if (sums) backward.add(block, b, fine_sums.get(), coarse_sums.get());
            }
        }
        for (int64_t i = 0; sums && i < block.images; ++i) {
#pragma omp parallel num_threads(threads) if (threads > 1)
            backward.write_products(b + i, fine_sums.get() + i * work.fine, coarse_sums.get() + i * work.coarse,
                                    squares.get(), wide.mine());
        }
    }
}

}  // namespace

void run(const UpsampledProblem& p, const Matches& result, int threads) {
    if (p.scores.dtype == SIMPLEMATCH_FLOAT64) return localize_all<double>(p, result, threads);
    localize_all<float>(p, result, threads);
}

void run_backward(const UpsampledProblem& p, const Matches& forward, const Upstream& upstream,
                  const UpsampledGradients& gradients, int threads) {
    if (p.scores.dtype == SIMPLEMATCH_FLOAT64)
        return localize_all_backward<double>(p, forward, upstream, gradients, threads);
    localize_all_backward<float>(p, forward, upstream, gradients, threads);
}

}  // namespace simplematch::cpu

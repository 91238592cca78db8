/* Two loops of AdaFisher for contiguous float32 on the CPU, each one pass over memory.

Plain C and no headers of torch, so that any compiler builds it in under a second. Nothing here needs
-ffast-math: sums run along independent columns, and so vectorise as they are written. */

#include <stdlib.h>

#ifndef EACH_WIDTH /* empty for systems that cannot choose between the copies */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
/* A copy for each width of vectors; the loader takes the widest that the processor has. */
#if __GNUC__ >= 12
#define EACH_WIDTH __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define EACH_WIDTH
#endif
#endif
#define TILE 1024 /* columns whose sums stay in the first-level cache */
#define BLOCK 64  /* rows that are summed before they join the rest: rounding grows with the blocks */
#define AT_ONCE 8 /* rows a pass over the partial sums */
#define SMALL 8192 /* entries of a parameter that one thread steps alone */

/* sums[j] = sum_i x[i][j]^2 of a matrix whose rows are `stride` apart; width <= TILE. */
EACH_WIDTH static void fold(const float *restrict x, long rows, long stride, long width,
                            float *restrict sums) {
    float part[TILE];
    for (long j = 0; j < width; j++) sums[j] = 0;
    for (long start = 0; start < rows; start += BLOCK) {
        long stop = start + BLOCK < rows ? start + BLOCK : rows, i = start;
        for (long j = 0; j < width; j++) part[j] = 0;
        for (; i + AT_ONCE <= stop; i += AT_ONCE) {
            const float *row = x + i * stride;
            for (long j = 0; j < width; j++) {
                float sum = 0;
                for (long k = 0; k < AT_ONCE; k++) sum += row[k * stride + j] * row[k * stride + j];
                part[j] += sum;
            }
        }
        for (; i < stop; i++)
            for (long j = 0; j < width; j++) part[j] += x[i * stride + j] * x[i * stride + j];
        for (long j = 0; j < width; j++) sums[j] += part[j];
    }
}

/* sums[j] = sum_i x[i][j]^2 of x [rows, columns]; if `counted`, the rows follow them. Of few columns
   each thread takes a piece of the rows, whose sums join the others'. */
void column_squares(const float *x, long rows, long columns, float *sums, long counted, int threads) {
    long tiles = (columns + TILE - 1) / TILE, pieces = columns < TILE * threads ? threads : 1;
    float *others = pieces > 1 ? malloc((pieces - 1) * columns * sizeof *others) : 0;
    if (!others) pieces = 1;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long part = 0; part < pieces * tiles; part++) {
        long piece = part / tiles, at = part % tiles * TILE;
        long first = rows * piece / pieces, last = rows * (piece + 1) / pieces;
        float *own = piece ? others + (piece - 1) * columns : sums;
        fold(x + first * columns + at, last - first, columns,
             columns - at < TILE ? columns - at : TILE, own + at);
    }
    for (long piece = 1; piece < pieces; piece++)
        for (long j = 0; j < columns; j++) sums[j] += others[(piece - 1) * columns + j];
    if (counted) sums[columns] = (float)rows;
    free(others);
}

/* The step of a parameter theta [rows, columns], see native.py. Without `left` F is 1. */
struct step {
    float *param;
    const float *grad;
    float *exp_avg;
    const float *left, *right;
    long rows, columns;
    long left_row, left_column, right_row, right_column; /* strides of the two, in entries */
    float weight, coupled, keep, sign, step_size, damping;
};

EACH_WIDTH static void step_rows(const struct step *s, long first, long last) {
    const float weight = s->weight, coupled = s->coupled, keep = s->keep, sign = s->sign;
    const float step_size = s->step_size, damping = s->damping;
    const long columns = s->columns, left_column = s->left_column, right_column = s->right_column;
    for (long i = first; i < last; i++) {
        float *restrict p = s->param + i * columns, *restrict m = s->exp_avg + i * columns;
        const float *restrict g = s->grad + i * columns;
        /* m */
        for (long j = 0; j < columns; j++) m[j] += weight * (sign * g[j] + coupled * p[j] - m[j]);
        /* F, and with it theta */
        if (!s->left) {
            for (long j = 0; j < columns; j++) p[j] = keep * p[j] - step_size * m[j];
            continue;
        }
        const float *restrict l = s->left + i * s->left_row, *restrict r = s->right + i * s->right_row;
        if (left_column == 0 && right_column == 1) {
            const float own = *l;
            for (long j = 0; j < columns; j++)
                p[j] = keep * p[j] - step_size * (m[j] / (own * r[j] + damping));
        } else {
            for (long j = 0; j < columns; j++) {
                float fisher_diag = l[j * left_column] * r[j * right_column] + damping;
                p[j] = keep * p[j] - step_size * (m[j] / fisher_diag);
            }
        }
    }
}

/* Rows of large parameters are dealt out to all threads, small parameters go to one each. */
void step_all(const struct step *const *steps, long count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int thread = 0; thread < threads; thread++)
        for (long k = 0; k < count; k++) {
            const struct step *s = steps[k];
            const long entries = s->rows * s->columns;
            if (entries < SMALL || (s->rows == 1 && s->left)) {
                if (k % threads == thread) step_rows(s, 0, s->rows);
            } else if (!s->left) { /* cut anywhere: it may be one long row */
                const long first = entries * thread / threads;
                struct step part = *s;
                part.param += first, part.grad += first, part.exp_avg += first;
                part.rows = 1, part.columns = entries * (thread + 1) / threads - first;
                step_rows(&part, 0, 1);
            } else {
                step_rows(s, s->rows * thread / threads, s->rows * (thread + 1) / threads);
            }
        }
}

/* Rows: chosen, attended to, averaged, summed. */

#pragma once

#include "base.h"

/* Rows of several arrays side by side, and back. */
struct choice {
    long parts, rows, width; /* the width is the sum of the parts' */
    const struct part *part;
    float *out; /* (rows, width) */
};

struct part {
    int64_t place; /* where its array lies; back, its gradient */
    int64_t width;
    int64_t start; /* the column at which it begins */
    int64_t count; /* rows of its array */
    int64_t index; /* where it lies: which row stands in each row; 0 for the same ones */
    int64_t mode;  /* back: 0 to add, 1 for the first part of an array, 2 for one that has all of its rows */
};

/* Which row of an array stands in row n; none but zeros where the array does not have it. */
static inline long chosen(const struct part *part, long n) {
    return part->index ? ((const int64_t *)(intptr_t)part->index)[n] : n;
}

static void gather_share(const void *work, long low, long high) {
    const struct choice *a = work;
    for (long n = low; n < high; n++)
        for (const struct part *part = a->part; part < a->part + a->parts; part++) {
            float *out = a->out + n * a->width + part->start;
            long row = chosen(part, n);
            size_t size = (size_t)part->width * sizeof(float);
            if (row < part->count)
                memcpy(out, (const float *)(intptr_t)part->place + row * part->width, size);
            else
                memset(out, 0, size);
        }
}

EXPORT gather(const struct choice *a, long threads) { share_evenly(gather_share, a, a->rows, a->width, threads); }

ROWS add_row(long width, float *restrict sum, const float *restrict x) {
    APART
    for (long k = 0; k < width; k++) sum[k] += x[k];
}

#define SHARES 16 /* of the columns of each part */

static void gather_back_share(const void *work, long low, long high) {
    const struct choice *a = work;
    for (const struct part *part = a->part; part < a->part + a->parts; part++) {
        long width = part->width, first = low * width / SHARES, count = high * width / SHARES - first;
        size_t size = (size_t)count * sizeof(float);
        float *to = (float *)(intptr_t)part->place + first;
        const float *from = a->out + part->start + first;
        if (part->mode == 1)
            for (long row = 0; row < part->count; row++) memset(to + row * width, 0, size);
        for (long n = 0; n < a->rows; n++, from += a->width) {
            long row = chosen(part, n);
            if (row >= part->count) continue;
            if (part->mode == 2)
                memcpy(to + row * width, from, size);
            else
                add_row(count, to + row * width, from);
        }
    }
}

/* From the gradient `out` to those of the arrays. */
EXPORT gather_back(const struct choice *a, long threads) {
    share_evenly(gather_back_share, a, SHARES, a->rows * a->width / SHARES, threads);
}

/* a = softmax(scores), out = a values, row by row */
struct attention {
    long rows, width;
    const float *scores;
    const float *values;
    float *weights;    /* a */
    float *out;        /* back, its gradient */
    float *of_scores;
    float *of_values;
};

static void attend_share(const void *work, long low, long high) {
    const struct attention *a = work;
    for (long n = low; n < high; n++) {
        const float *restrict scores = a->scores + n * a->width, *restrict values = a->values + n * a->width;
        float *restrict weights = a->weights + n * a->width, *restrict out = a->out + n * a->width;
        float most[16], sums[16] = {0}, largest = scores[0], sum = 0.0f;
        long k = 0, whole = a->width / 16 * 16;
        for (long j = 0; j < 16; j++) most[j] = largest;
        for (; k < whole; k += 16)
            for (long j = 0; j < 16; j++) most[j] = scores[k + j] > most[j] ? scores[k + j] : most[j];
        for (; k < a->width; k++) largest = scores[k] > largest ? scores[k] : largest;
        for (long j = 0; j < 16; j++) largest = most[j] > largest ? most[j] : largest;
        for (k = 0; k < whole; k += 16)
            for (long j = 0; j < 16; j++) sums[j] += weights[k + j] = exponential(scores[k + j] - largest);
        for (; k < a->width; k++) sum += weights[k] = exponential(scores[k] - largest);
        for (long j = 0; j < 16; j++) sum += sums[j];
        float share = 1.0f / sum;
        for (k = 0; k < a->width; k++) {
            weights[k] *= share;
            out[k] = weights[k] * values[k];
        }
    }
}

EXPORT attend(const struct attention *a, long threads) { share_evenly(attend_share, a, a->rows, 8 * a->width, threads); }

static void attend_back_share(const void *work, long low, long high) {
    const struct attention *a = work;
    for (long n = low; n < high; n++) {
        const float *restrict weights = a->weights + n * a->width, *restrict values = a->values + n * a->width;
        const float *restrict grad = a->out + n * a->width;
        float *restrict of_scores = a->of_scores + n * a->width, *restrict of_values = a->of_values + n * a->width;
        float sums[16] = {0}, sum = 0.0f;
        long k = 0;
        for (; k + 16 <= a->width; k += 16)
            for (long j = 0; j < 16; j++) {
                float entering = grad[k + j] * weights[k + j];
                of_values[k + j] = entering;
                sums[j] += of_scores[k + j] = entering * values[k + j];
            }
        for (; k < a->width; k++) {
            of_values[k] = grad[k] * weights[k];
            sum += of_scores[k] = of_values[k] * values[k];
        }
        for (long j = 0; j < 16; j++) sum += sums[j];
        for (k = 0; k < a->width; k++) of_scores[k] -= weights[k] * sum;
    }
}

EXPORT attend_back(const struct attention *a, long threads) {
    share_evenly(attend_back_share, a, a->rows, 8 * a->width, threads);
}

/* Of each row (rows, width) its sum and the sum of its squares, in double precision. */
EXPORT moments(const float *restrict x, long rows, long width, double *sums, double *squares) {
    for (long n = 0; n < rows; n++, x += width) {
        double sum[16] = {0}, square[16] = {0};
        long k = 0;
        for (; k + 16 <= width; k += 16)
            for (long j = 0; j < 16; j++) {
                double value = x[k + j];
                sum[j] += value;
                square[j] += value * value;
            }
        for (long j = 0; k < width; k++, j++) {
            double value = x[k];
            sum[j] += value;
            square[j] += value * value;
        }
        sums[n] = squares[n] = 0.0;
        for (long j = 0; j < 16; j++) {
            sums[n] += sum[j];
            squares[n] += square[j];
        }
    }
}

/* Part i of count[b] ones of a sequence of n = lengths[b] rows is the mean of its rows from floor(i n / count) to
   ceil((i + 1) n / count); x (B, steps, width), out (B, parts, width), zero where a part has no row. */
EXPORT means(const float *x, long batch, long steps, long width, const int64_t *lengths, const int64_t *count,
             float *out, long parts) {
    for (long b = 0; b < batch; b++, x += steps * width)
        for (long i = 0; i < parts; i++, out += width) {
            long n = lengths[b], first = i * n / count[b], last = ((i + 1) * n + count[b] - 1) / count[b];
            first = lesser(first, n);
            last = lesser(last, n);
            if (last - first == 1) {
                memcpy(out, x + first * width, (size_t)width * sizeof(float));
                continue;
            }
            for (long k = 0; k < width; k += 16) { /* in double precision, so that nothing is lost */
                double sum[16] = {0};
                long some = lesser(width - k, 16);
                for (long row = first; row < last; row++)
                    for (long j = 0; j < some; j++) sum[j] += x[row * width + k + j];
                for (long j = 0; j < some; j++) out[k + j] = last > first ? (float)(sum[j] / (double)(last - first)) : 0;
            }
        }
}

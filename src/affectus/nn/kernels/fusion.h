/* What fuses modalities: a layer upon an outer product, and vectors that are weighed. */

#pragma once

#include "base.h"

/* ---- A linear layer upon the outer product of two vectors, of which some is dropped: see affectus.nn.product ---- */

struct product {
    long batch, left_width, right_width, out;
    long size;             /* values on the left of a part of `words` */
    long chunks;           /* of the values on the left, so that no sum depends on how many threads there are */
    const float *left;     /* (batch, left_width) */
    const float *right;    /* (batch, right_width) */
    const float *weight;   /* (out, left_width * right_width) */
    const int32_t *words;  /* (parts / 32, batch, size * right_width): part n has bit n % 32; null to drop nothing */
    float *sums;           /* (chunks, out, batch): what the layer makes of a chunk */
    const float *grad;     /* (batch, out): of the layer's output */
    const float *turned;   /* (out, batch): the same */
    float *of_weight;      /* as weight */
    float *of_left;        /* as left */
    float *of_right;       /* (chunks, batch, right_width): added to */
};

#define ROOM 500000 /* bytes that the blocks of a thread may take, to stay in the cache */
#define LANES 16
#define LINES 12    /* of the cache that are asked for ahead with each block that is multiplied */

ROWS product_row(long width, int dropping, float left, const float *restrict right, const int32_t *restrict words,
                 int32_t bit, float *restrict out) {
    APART
    for (long k = 0; k < width; k++) {
        float value = left * right[k];
        out[k] = !dropping || (words[k] & bit) ? value : 0.0f;
    }
}

/* The gradient `out` of a row of the product: returns what it is of the value on the left, adds what it is of those on
   the right. */
VALUE product_row_back(long width, int dropping, float left, const float *restrict right, const int32_t *restrict words,
                       int32_t bit, const float *restrict out, float *restrict of_right) {
    float sums[LANES] = {0}, sum = 0.0f;
    long k = 0;
    for (; k + LANES <= width; k += LANES) {
        APART
        for (long lane = 0; lane < LANES; lane++) {
            float gradient = !dropping || (words[k + lane] & bit) ? out[k + lane] : 0.0f;
            sums[lane] += gradient * right[k + lane];
            of_right[k + lane] += gradient * left;
        }
    }
    for (; k < width; k++) {
        float gradient = !dropping || (words[k] & bit) ? out[k] : 0.0f;
        sum += gradient * right[k];
        of_right[k] += gradient * left;
    }
    for (long lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

/* The decisions about a row of the product: those of its words with its bit. */
static inline const int32_t *decisions(const struct product *a, long sample, long left, int32_t *bit) {
    long part = left / a->size;
    *bit = (int32_t)(1u << part % 32);
    return a->words + ((part / 32 * a->batch + sample) * a->size + left % a->size) * a->right_width;
}

/* Rows of a block are so many numbers apart: whole panels. */
static inline long apart(const struct product *a, long count) {
    return (count * a->right_width + PANEL - 1) / PANEL * PANEL;
}

/* The product of `count` values on the left from `first` on: (batch, apart), zero after its end. */
ROWS product_block(const struct product *a, long first, long count, float *block) {
    long width = a->right_width, row = apart(a, count);
    for (long n = 0; n < a->batch; n++, block += row) {
        const float *left = a->left + n * a->left_width + first, *right = a->right + n * width;
        for (long i = 0; i < count; i++) {
            int32_t bit;
            if (a->words) {
                const int32_t *words = decisions(a, n, first + i, &bit);
                product_row(width, 1, left[i], right, words, bit, block + i * width);
            } else {
                product_row(width, 0, left[i], right, 0, 0, block + i * width);
            }
        }
        for (long k = count * width; k < row; k++) block[k] = 0.0f;
    }
}

/* Weights that are wanted soon, asked for a few at a time while others are multiplied with: `rows` rows of so many
   numbers, so far apart. */
struct ahead {
    const char *from;
    long rows, length, apart, at; /* in bytes; `at` is of the row */
};

static inline void ask(struct ahead *ahead, int lines) {
    for (int line = 0; line < lines && ahead->rows > 0; line++) {
        _mm_prefetch(ahead->from + ahead->at, _MM_HINT_T1);
        ahead->at += 64;
        if (ahead->at >= ahead->length) {
            ahead->at = 0;
            ahead->from += ahead->apart;
            ahead->rows--;
        }
    }
}

/* Of the block after one that begins at `first`, of those before `end`. */
static inline struct ahead weights_ahead(const struct product *a, long first, long most, long end) {
    long begin = first + most, count = lesser(end - begin, most), width = a->right_width * (long)sizeof(float);
    return (struct ahead){(const char *)a->weight + begin * width, count > 0 ? a->out : 0, count * width,
                          a->left_width * width, 0};
}

/* The weights of the same: (out, apart). */
ROWS weight_block(const struct product *a, long first, long count, float *block) {
    long width = a->right_width, row = apart(a, count);
    for (long o = 0; o < a->out; o++, block += row) {
        memcpy(block, a->weight + (o * a->left_width + first) * width, (size_t)(count * width) * sizeof(float));
        for (long k = count * width; k < row; k++) block[k] = 0.0f;
    }
}

#ifdef __AVX512F__
#define DOWN 6
#define ACROSS 4
#else
#define DOWN 3
#define ACROSS 2
#endif

/* Scalar products of rows of a with rows of b, as 16 sums each, which are added to c; those of rows before `done` and of
   columns before `ready` have been. */
ROWS dot_block(const int down, const int across, const float *a, const float *b, long row, lanes *c, long c_row,
               long done, long ready, struct ahead *ahead) {
    lanes sum[DOWN][ACROSS];
    for (int i = 0; i < down; i++)
        for (int j = 0; j < across; j++) sum[i][j] = (lanes){0};
    for (long k = 0; k < row; k += LANES) {
        ask(ahead, 1);
        lanes right[ACROSS];
        for (int j = 0; j < across; j++) right[j] = *(const lanes *)(b + j * row + k);
        for (int i = 0; i < down; i++) {
            lanes left = *(const lanes *)(a + i * row + k);
            for (int j = 0; j < across; j++) sum[i][j] += left * right[j];
        }
    }
    for (int i = 0; i < down; i++)
        for (int j = 0; j < across; j++)
            if (i >= done && j >= ready) c[i * c_row + j] += sum[i][j];
}

/* Those of all rows of a, `m` of them, with all rows of b, `n` of them. What does not fill a block overlaps the last. */
static void dots(const float *a, const float *b, long row, lanes *c, long m, long n, struct ahead *ahead) {
    for (long i = 0; i < m; i += m < DOWN ? 1 : DOWN) {
        long top = m < DOWN || i + DOWN <= m ? i : m - DOWN;
        for (long j = 0; j < n; j += n < ACROSS ? 1 : ACROSS) {
            long side = n < ACROSS || j + ACROSS <= n ? j : n - ACROSS;
            const float *left = a + top * row, *right = b + side * row;
            lanes *to = c + top * n + side;
            if (m < DOWN && n < ACROSS)
                dot_block(1, 1, left, right, row, to, n, 0, 0, ahead);
            else if (m < DOWN)
                dot_block(1, ACROSS, left, right, row, to, n, 0, j - side, ahead);
            else if (n < ACROSS)
                dot_block(DOWN, 1, left, right, row, to, n, i - top, 0, ahead);
            else
                dot_block(DOWN, ACROSS, left, right, row, to, n, i - top, j - side, ahead);
        }
    }
}

/* Values on the left whose blocks a thread has at once, `arrays` of them for the batch and as many for the weights. */
static long values_at_once(const struct product *a, long arrays) {
    long count = ROOM / (long)sizeof(float) / (arrays * (a->batch + a->out)) / a->right_width;
    return count > 1 ? count : 1;
}

static float *room_for(long numbers) { return aligned_alloc(64, ((size_t)numbers * sizeof(float) + 63) / 64 * 64); }

static void product_share(const void *work, long low, long high) {
    const struct product *a = work;
    long most = values_at_once(a, 1), row = apart(a, most), size = a->out * a->batch;
    float *made = room_for(a->batch * row), *weights = room_for(a->out * row);
    lanes *sums = (lanes *)room_for(size * LANES);
    for (long chunk = low; chunk < high; chunk++) {
        long end = (chunk + 1) * a->left_width / a->chunks;
        for (long k = 0; k < size; k++) sums[k] = (lanes){0};
        for (long first = chunk * a->left_width / a->chunks; first < end; first += most) {
            long count = lesser(end - first, most);
            product_block(a, first, count, made);
            weight_block(a, first, count, weights);
            struct ahead ahead = weights_ahead(a, first, most, end);
            dots(weights, made, apart(a, count), sums, a->out, a->batch, &ahead);
        }
        for (long k = 0; k < size; k++) {
            float sum = 0.0f;
            for (long lane = 0; lane < LANES; lane++) sum += sums[k][lane];
            a->sums[chunk * size + k] = sum;
        }
    }
    free(made);
    free(weights);
    free(sums);
}

static void share_product(void (*function)(const void *, long, long), const struct product *a, long threads) {
    share_evenly(function, a, a->chunks, a->batch * a->left_width * a->right_width / a->chunks * a->out, threads);
}

/* The layer without its bias. */
EXPORT product(const struct product *a, long threads) { share_product(product_share, a, threads); }

/* c (m, columns) = a (m, k) b (k, columns), of whole panels of b, whose rows are so far apart. */
static void multiply_rows(const float *a, long a_row, const float *b, long b_row, float *c, long c_row, long m, long k,
                          long columns, struct ahead *ahead) {
    for (long column = 0; column < columns; column += 16 * VECTORS)
        for (long row = 0; row < m; row += FEW) {
            ask(ahead, LINES);
            multiply_panel(0, a + row * a_row, a_row, b + column, b_row, c + row * c_row + column, c_row,
                           lesser(m - row, FEW), k);
        }
}

/* Copy to where nobody looks soon, past the cache. */
static void put(float *to, const float *from, long count) {
#ifdef __AVX512F__
    long k = 0;
    for (; k < count && (uintptr_t)(to + k) % 64; k++) to[k] = from[k];
    for (; k + 16 <= count; k += 16) _mm512_stream_ps(to + k, _mm512_loadu_ps(from + k));
    for (; k < count; k++) to[k] = from[k];
#else
    memcpy(to, from, (size_t)count * sizeof(float));
#endif
}

static void product_back_share(const void *work, long low, long high) {
    const struct product *a = work;
    long width = a->right_width, whole = a->left_width * width;
    long most = values_at_once(a, 2), rows = apart(a, most);
    float *made = room_for(a->batch * rows), *weights = room_for(a->out * rows);
    float *of_made = room_for(a->batch * rows), *of_weights = room_for(a->out * rows);
    for (long chunk = low; chunk < high; chunk++) {
        long end = (chunk + 1) * a->left_width / a->chunks;
        for (long first = chunk * a->left_width / a->chunks; first < end; first += most) {
            long count = lesser(end - first, most), row = apart(a, count);
            product_block(a, first, count, made);
            struct ahead ahead = weights_ahead(a, first, most, end);
            multiply_rows(a->turned, a->batch, made, row, of_weights, row, a->out, a->batch, row, &ahead);
            for (long o = 0; o < a->out; o++)
                put(a->of_weight + o * whole + first * width, of_weights + o * row, count * width);
            weight_block(a, first, count, weights);
            multiply_rows(a->grad, a->out, weights, row, of_made, row, a->batch, a->out, row, &ahead);
            for (long n = 0; n < a->batch; n++) {
                const float *right = a->right + n * width, *left = a->left + n * a->left_width + first;
                float *to_left = a->of_left + n * a->left_width + first;
                float *to_right = a->of_right + (chunk * a->batch + n) * width;
                for (long i = 0; i < count; i++) {
                    const float *out = of_made + n * row + i * width;
                    int32_t bit;
                    if (a->words) {
                        const int32_t *words = decisions(a, n, first + i, &bit);
                        to_left[i] = product_row_back(width, 1, left[i], right, words, bit, out, to_right);
                    } else {
                        to_left[i] = product_row_back(width, 0, left[i], right, 0, 0, out, to_right);
                    }
                }
            }
        }
    }
    _mm_sfence(); /* what was put past the cache is there for all threads */
    free(made);
    free(weights);
    free(of_made);
    free(of_weights);
}

/* From the gradient of the layer's output to those of its weights and of both factors. */
EXPORT product_back(const struct product *a, long threads) { share_product(product_back_share, a, threads); }

/* ---- Vectors side by side, each times a number of its row ---- */

struct weighing {
    long rows, width, parts;    /* the width is the sum of the parts' */
    const int64_t *places;      /* where each part (rows, its width) lies */
    const int64_t *widths;      /* of each part */
    const float *numbers;       /* (rows, parts) */
    float *out;                 /* (rows, width); back, its gradient */
    const int64_t *of_places;   /* where the gradient of each part lies */
    float *of_numbers;          /* as numbers */
};

static void weigh_share(const void *work, long low, long high) {
    const struct weighing *a = work;
    float *out = a->out + low * a->width;
    for (long n = low; n < high; n++)
        for (long p = 0; p < a->parts; out += a->widths[p++]) {
            const float *part = (const float *)(intptr_t)a->places[p] + n * a->widths[p];
            product_row(a->widths[p], 0, a->numbers[n * a->parts + p], part, 0, 0, out);
        }
}

EXPORT weigh(const struct weighing *a, long threads) { share_evenly(weigh_share, a, a->rows, a->width, threads); }

static void weigh_back_share(const void *work, long low, long high) {
    const struct weighing *a = work;
    const float *of_out = a->out + low * a->width;
    for (long n = low; n < high; n++)
        for (long p = 0; p < a->parts; of_out += a->widths[p++]) {
            long width = a->widths[p], number = n * a->parts + p;
            const float *part = (const float *)(intptr_t)a->places[p] + n * width;
            float *to = (float *)(intptr_t)a->of_places[p] + n * width;
            for (long k = 0; k < width; k++) to[k] = 0.0f;
            a->of_numbers[number] = product_row_back(width, 0, a->numbers[number], part, 0, 0, of_out, to);
        }
}

/* From the gradient `out` to those of the parts and of the numbers. */
EXPORT weigh_back(const struct weighing *a, long threads) {
    share_evenly(weigh_back_share, a, a->rows, 2 * a->width, threads);
}

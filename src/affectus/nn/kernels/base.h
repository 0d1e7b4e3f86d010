/* What all kernels stand on: functions of numbers, products, and threads. */

#pragma once

#include <immintrin.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Before a loop whose turns do not depend on each other, which `restrict` alone does not tell every compiler. */
#ifdef __clang__
#define APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define APART _Pragma("GCC ivdep")
#endif

#define ROWS static inline __attribute__((always_inline)) void
#define VALUE static inline __attribute__((always_inline)) float
#define EXPORT __attribute__((visibility("default"))) void

static inline long lesser(long a, long b) { return a < b ? a : b; }

/* e^x within 2e-7 of it, relatively; x is cut to [-87, 88]. The polynomial is that of Cephes's expf. */
VALUE exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    /* rounded by a number that leaves no room for binary places */
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        int32_t bits;
        float value;
    } power = {.bits = ((int32_t)n + 127) << 23};
    return p * power.value;
}

VALUE sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* Near zero a polynomial (Cephes's tanhf), since the other form loses digits there. */
VALUE tangent(float x) {
    float size = fabsf(x), square = x * x;
    float large = copysignf(1.0f - 2.0f / (exponential(2.0f * size) + 1.0f), x);
    float p = -5.70498872745e-3f;
    p = p * square + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    float small = p * square * x + x;
    return size < 0.625f ? small : large;
}

/* ---- Products of few rows, which begin at once and find the weights where the last step left them ---- */

typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));

#ifdef __AVX512F__
#define VECTORS 2
#else /* half as many numbers to a register, and half as many registers */
#define VECTORS 1
#endif
#define PANEL 32 /* columns that stand together in packed weights */

/* Some rows of c, and 16 * VECTORS columns: a b, or c + a b. */
#define BLOCK(rows)                                                                               \
    ROWS block_##rows(const int adding, const float *a, long a_row, const float *b, const long b_row, float *c,    \
                      long c_row, long k) {                                                       \
        lanes sum[rows][VECTORS];                                                                 \
        for (int r = 0; r < rows; r++)                                                            \
            for (int v = 0; v < VECTORS; v++)                                                     \
                sum[r][v] = adding ? *(const lanes *)(c + r * c_row + 16 * v) : (lanes){0};       \
        for (long j = 0; j < k; j++, b += b_row)                                                  \
            for (int v = 0; v < VECTORS; v++) {                                                   \
                lanes some = *(const lanes *)(b + 16 * v);                                        \
                for (int r = 0; r < rows; r++) sum[r][v] += a[r * a_row + j] * some;              \
            }                                                                                     \
        for (int r = 0; r < rows; r++)                                                            \
            for (int v = 0; v < VECTORS; v++) *(lanes *)(c + r * c_row + 16 * v) = sum[r][v];     \
    }
BLOCK(8)
BLOCK(7)
BLOCK(6)
BLOCK(5)
BLOCK(4)
BLOCK(3)
BLOCK(2)
BLOCK(1)

ROWS multiply_panel(const int adding, const float *a, long a_row, const float *b, const long b_row, float *c,
                    long c_row, long m, long k) {
    long row = 0;
    for (; row + 8 <= m; row += 8) block_8(adding, a + row * a_row, a_row, b, b_row, c + row * c_row, c_row, k);
    a += row * a_row;
    c += row * c_row;
    switch (m - row) { /* the late steps of a batch have few rows, so what is left of eight counts */
    case 7: block_7(adding, a, a_row, b, b_row, c, c_row, k); break;
    case 6: block_6(adding, a, a_row, b, b_row, c, c_row, k); break;
    case 5: block_5(adding, a, a_row, b, b_row, c, c_row, k); break;
    case 4: block_4(adding, a, a_row, b, b_row, c, c_row, k); break;
    case 3: block_3(adding, a, a_row, b, b_row, c, c_row, k); break;
    case 2: block_2(adding, a, a_row, b, b_row, c, c_row, k); break;
    case 1: block_1(adding, a, a_row, b, b_row, c, c_row, k); break;
    }
}

#define FEW 8

/* c (m, n) = a (m, k) b (k, n), or c + a b, of packed weights b; the rows of a and c are so far apart. */
ROWS multiply(const int adding, const float *a, long a_row, const float *b, float *c, long c_row, long m, long k,
              long n) {
    long column = 0;
    for (; column + PANEL <= n; column += PANEL, b += k * PANEL)
        for (long some = 0; some < PANEL; some += 16 * VECTORS)
            multiply_panel(adding, a, a_row, b + some, PANEL, c + column + some, c_row, m, k);
    for (long row = 0; column < n && row < m; row += FEW) { /* columns that do not fill a panel */
        float whole[FEW * PANEL];
        long rows = lesser(m - row, FEW);
        for (long some = 0; some < PANEL; some += 16 * VECTORS)
            multiply_panel(0, a + row * a_row, a_row, b + some, PANEL, whole + some, PANEL, rows, k);
        for (long r = 0; r < rows; r++)
            for (long i = column; i < n; i++) {
                float *to = c + (row + r) * c_row + i;
                *to = whole[r * PANEL + i - column] + (adding ? *to : 0.0f);
            }
    }
}

/* ---- Several threads, each of which takes some samples through all steps, and waits for nobody meanwhile ---- */

/* What PyTorch starts its own threads by, so that there is one set of them: a function, its argument, how many, 0. */
typedef void (*starter)(void (*)(void *), void *, unsigned, unsigned);
static starter start = 0;
EXPORT use_threads(starter given) { start = given; }

#define MOST 64        /* threads */
#define WORTH 2000000L /* multiplications below which it takes longer to begin together than to do it alone */

struct shares {
    void (*function)(const void *work, long low, long high);
    const void *work;
    long count;
    const long *bounds; /* share i is from bounds[i] on, before bounds[i + 1] */
    atomic_long next;
    unsigned mode; /* of this thread's arithmetic: whether numbers close to zero are zero */
};

static void take_shares(void *given) {
    struct shares *shares = given;
    unsigned mode = _mm_getcsr();
    _mm_setcsr(shares->mode);
    for (long i; (i = atomic_fetch_add(&shares->next, 1)) < shares->count;)
        shares->function(shares->work, shares->bounds[i], shares->bounds[i + 1]);
    _mm_setcsr(mode);
}

static inline int is_worth(long threads, long cost) { return start && threads > 1 && cost >= WORTH; }

static void begin(void (*function)(const void *, long, long), const void *work, long count, const long *bounds) {
    struct shares shares = {function, work, count, bounds, 0, _mm_getcsr()};
    start(take_shares, &shares, (unsigned)count, 0);
}

/* Do a function's work on all samples; those of a step are the first `sizes[step]`, no more than in the step before.
   A share has as many rows as another. No result depends on how they are shared out. */
static void share(void (*function)(const void *, long, long), const void *work, long steps, const int64_t *sizes,
                  long cost, long threads) {
    long samples = steps ? sizes[0] : 0, rows = 0;
    for (long step = 0; step < steps; step++) rows += sizes[step];
    threads = lesser(lesser(threads, MOST), samples);
    if (!is_worth(threads, rows * cost)) {
        function(work, 0, samples);
        return;
    }
    long bounds[MOST + 1] = {0}, count = 0, length = steps, some = 0;
    for (long sample = 0; sample < samples; sample++) { /* of falling length */
        while (sizes[length - 1] <= sample) length--;
        some += length;
        if (some * threads >= rows * (count + 1)) bounds[++count] = sample + 1;
    }
    begin(function, work, count, bounds);
}

/* Do a function's work on so many things, none of which has more to do than another. */
static void share_evenly(void (*function)(const void *, long, long), const void *work, long things, long cost,
                         long threads) {
    threads = lesser(lesser(threads, MOST), things);
    if (!is_worth(threads, things * cost)) {
        function(work, 0, things);
        return;
    }
    long bounds[MOST + 1];
    for (long i = 0; i <= threads; i++) bounds[i] = i * things / threads;
    begin(function, work, threads, bounds);
}

/* ---- Weights as the products want them ---- */

struct packing {
    const float *b;
    float *packed;
    long k, n, down, right;
};

#define STRETCH 16 /* numbers of a row that come with one reading of memory */

/* Eight rows of eight numbers, as columns. */
ROWS turn(const float *x, long down, float *to, const long width) {
    __m256 r[8], s[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(x + i * down);
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * width, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * width, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

/* Count rows of so many terms, element (i, j) at i * down + j * right, as (k, width); filled up with zeros. */
ROWS arrange(const long width, const float *x, long down, long right, long count, long k, float *to) {
    if (count < width) memset(to, 0, (size_t)(k * width) * sizeof(float));
    if (down == 1) {
        for (long j = 0; j < k; j++)
            if (count == width)
                memcpy(to + j * width, x + j * right, (size_t)width * sizeof(float));
            else
                memcpy(to + j * width, x + j * right, (size_t)count * sizeof(float));
        return;
    }
    long whole = right == 1 ? count & ~7L : 0, even = k & ~7L;
    for (long some = 0; some < even; some += STRETCH)
        for (long i = 0; i < whole; i += 8)
            for (long j = some; j < lesser(some + STRETCH, even); j += 8)
                turn(x + i * down + j, down, to + j * width + i, width);
    for (long i = 0; i < count; i++)
        for (long j = i < whole ? even : 0; j < k; j++) to[j * width + i] = x[i * down + j * right];
}

static void pack_share(const void *work, long low, long high) {
    const struct packing *a = work;
    for (long panel = low; panel < high; panel++)
        arrange(PANEL, a->b + panel * PANEL * a->right, a->right, a->down, lesser(PANEL, a->n - panel * PANEL), a->k,
                a->packed + panel * a->k * PANEL);
}

/* Weights b (k, n), element (j, i) of which is at j * down + i * right, as panels of 32 columns, the last one filled up
   with zeros: (panels, k, 32). */
EXPORT pack(const float *b, float *packed, long k, long n, long down, long right, long threads) {
    struct packing packing = {b, packed, k, n, down, right};
    share_evenly(pack_share, &packing, (n + PANEL - 1) / PANEL, 16 * k * PANEL, threads);
}

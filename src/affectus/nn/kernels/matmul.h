/* Products of many rows, for processors on which PyTorch's library leaves half of the registers unused. */

#pragma once

#include "base.h"

#define HIGH 8    /* rows that are summed in registers at once, PANEL or half as many columns each */
#define DEEP 256  /* terms of a sum, as many as let a panel of b stay in the nearest cache */
#define BROAD 128 /* rows of a that are gone through with each panel, and stay in the next cache */
#define WIDE 1024 /* columns that are gone through together at most: a multiple of PANEL */

/* c (m, n) = start + a (m, k) b (k, n). Element (i, j) of a lies at i * a_down + j * a_right, and so on; elements of c that
   are in a row stand together. The start is zero, a bias (n), or what c holds. */
struct matmul {
    const float *a, *b;
    float *c;
    const float *bias; /* may be null */
    long adding, m, n, k, a_down, a_right, b_down, b_right, c_down;
};

/* c + a b, or start + a b, of HIGH rows and 16 * vectors columns; a is (k, HIGH), b (k, PANEL). */
ROWS sum_block(const int vectors, const int adding, const float *start, const float *a, const float *b, float *c,
               long c_down, long k) {
    lanes sum[HIGH][2];
    if (!adding) /* what will be written is asked for while the sums are made */
        for (int r = 0; r < HIGH; r++)
            for (int v = 0; v < vectors; v++) __builtin_prefetch(c + r * c_down + 16 * v, 1);
    for (int r = 0; r < HIGH; r++)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = *(const lanes *)((adding ? c + r * c_down : start) + 16 * v);
    for (long j = 0; j < k; j++, a += HIGH, b += PANEL)
        for (int v = 0; v < vectors; v++) {
            lanes some = *(const lanes *)(b + 16 * v);
            for (int r = 0; r < HIGH; r++) sum[r][v] += a[r] * some;
        }
    for (int r = 0; r < HIGH; r++)
        for (int v = 0; v < vectors; v++) *(lanes *)(c + r * c_down + 16 * v) = sum[r][v];
}

ROWS sum_whole(const int adding, const float *start, const float *a, const float *b, float *c, long c_down, long k) {
#if VECTORS == 2
    sum_block(2, adding, start, a, b, c, c_down, k);
#else
    sum_block(1, adding, start, a, b, c, c_down, k);
    sum_block(1, adding, start + 16, a, b + 16, c + 16, c_down, k);
#endif
}

/* HIGH rows and PANEL columns, or what is there of them. */
ROWS sum_some(const int adding, const float *start, const float *a, const float *b, float *c, long c_down, long rows,
              long columns, long k) {
    if (rows == HIGH && columns == PANEL) {
        sum_whole(adding, start, a, b, c, c_down, k);
        return;
    }
    float whole[HIGH * PANEL];
    if (adding)
        for (long r = 0; r < rows; r++)
            for (long i = 0; i < columns; i++) whole[r * PANEL + i] = c[r * c_down + i];
    if (columns <= 16)
        sum_block(1, adding, start, a, b, whole, PANEL, k);
    else
        sum_whole(adding, start, a, b, whole, PANEL, k);
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < columns; i++) c[r * c_down + i] = whole[r * PANEL + i];
}

/* What is arranged, by each thread for itself; held from call to call. */
static _Thread_local struct {
    _Alignas(64) float a[BROAD * DEEP], b[WIDE * DEEP];
} room;

/* Some rows and columns of c, of these WIDE at most. */
static void matmul_block(const struct matmul *p, long top, long bottom, long first, long last) {
    long panels = (last - first + PANEL - 1) / PANEL;
    float *a = room.a, *b = room.b, start[PANEL] = {0};
    for (long j = 0; j < p->k; j += DEEP) {
        long k = lesser(DEEP, p->k - j);
        int adding = j || p->adding;
        for (long panel = 0; panel < panels; panel++) {
            long column = first + panel * PANEL;
            arrange(PANEL, p->b + j * p->b_down + column * p->b_right, p->b_right, p->b_down,
                    lesser(PANEL, last - column), k, b + panel * PANEL * k);
        }
        for (long row = top; row < bottom; row += BROAD) {
            long rows = lesser(BROAD, bottom - row);
            for (long r = 0; r < rows; r += HIGH)
                arrange(HIGH, p->a + (row + r) * p->a_down + j * p->a_right, p->a_down, p->a_right,
                        lesser(HIGH, rows - r), k, a + r * k);
            for (long panel = 0; panel < panels; panel++) {
                long column = first + panel * PANEL, columns = lesser(PANEL, last - column);
                if (p->bias && !adding) memcpy(start, p->bias + column, (size_t)columns * sizeof(float));
                for (long r = 0; r < rows; r += HIGH) {
                    float *c = p->c + (row + r) * p->c_down + column;
                    const float *of_a = a + r * k, *of_b = b + panel * PANEL * k;
                    if (adding)
                        sum_some(1, start, of_a, of_b, c, p->c_down, lesser(HIGH, rows - r), columns, k);
                    else
                        sum_some(0, start, of_a, of_b, c, p->c_down, lesser(HIGH, rows - r), columns, k);
                }
            }
        }
    }
}

static void matmul_part(const struct matmul *p, long top, long bottom, long first, long last) {
    long blocks = (last - first + WIDE - 1) / WIDE, panels = (last - first + PANEL - 1) / PANEL;
    long columns = (panels + blocks - 1) / blocks * PANEL; /* all blocks alike, since a is arranged for each */
    for (; first < last; first += columns) matmul_block(p, top, bottom, first, lesser(first + columns, last));
}

static void matmul_rows(const void *work, long low, long high) {
    const struct matmul *p = work;
    matmul_part(p, low * HIGH, lesser(high * HIGH, p->m), 0, p->n);
}

static void matmul_columns(const void *work, long low, long high) {
    const struct matmul *p = work;
    matmul_part(p, 0, p->m, low * PANEL, lesser(high * PANEL, p->n));
}

/* Each thread takes rows of c, or columns where there are more of them; a sum has the same order whoever does it. */
EXPORT matmul(const float *a, const float *b, float *c, const float *bias, long adding, long m, long n, long k, long a_down,
              long a_right, long b_down, long b_right, long c_down, long threads) {
    struct matmul product = {a, b, c, bias, adding, m, n, k, a_down, a_right, b_down, b_right, c_down};
    if (m >= n)
        share_evenly(matmul_rows, &product, (m + HIGH - 1) / HIGH, HIGH * k * n, threads);
    else
        share_evenly(matmul_columns, &product, (n + PANEL - 1) / PANEL, PANEL * k * m, threads);
}

/* Whether PyTorch's library is slow here: Intel's takes AVX2 on a processor of another maker, whatever it has. */
__attribute__((visibility("default"))) long is_foreign(void) {
    __builtin_cpu_init();
    return __builtin_cpu_is("intel") == 0;
}

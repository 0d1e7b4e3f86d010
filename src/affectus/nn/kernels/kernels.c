/* All steps of a recurrence in one call, and what surrounds its products in one pass over the rows.

   PyTorch takes an operator, a call and a pass through memory for each operation of each step. All arrays are of single
   precision and contiguous; a row is a sample at a step, and the rows of a step stand one after the other, as
   affectus.nn.packing has them. Nothing is checked here: affectus.nn.kernels is what calls it.

   The loops are plain, for the compiler to turn into vector instructions; there is nothing of one processor in them. */

#include <math.h>
#include <stdint.h>
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

/* Of which source a library was made, for who loads it. */
__attribute__((visibility("default"))) const char source[] = STAMP;

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

/* Weights b (k, n), element (j, i) of which is at j * down + i * right, as panels of 32 columns, the last one filled up
   with zeros: (panels, k, 32). */
EXPORT pack(const float *b, float *packed, long k, long n, long down, long right) {
    for (long first = 0; first < n; first += PANEL, packed += k * PANEL) {
        long count = n - first < PANEL ? n - first : PANEL;
        const float *from = b + first * right;
        if (count < PANEL)
            for (long j = 0; j < k * PANEL; j++) packed[j] = 0.0f;
        if (right == 1)
            for (long j = 0; j < k; j++) memcpy(packed + j * PANEL, from + j * down, (size_t)count * sizeof(float));
        else /* along what stands together, if anything does */
            for (long i = 0; i < count; i++)
                for (long j = 0; j < k; j++) packed[j * PANEL + i] = from[j * down + i * right];
    }
}

/* Some rows of c, and 16 * VECTORS columns of a panel: a b, or c + a b. */
#define BLOCK(rows)                                                                               \
    static inline __attribute__((always_inline)) void block_##rows(const int adding, const float *a, long a_row,   \
                                                                   const float *b, float *c, long c_row, long k) { \
        lanes sum[rows][VECTORS];                                                                 \
        for (int r = 0; r < rows; r++)                                                            \
            for (int v = 0; v < VECTORS; v++)                                                     \
                sum[r][v] = adding ? *(const lanes *)(c + r * c_row + 16 * v) : (lanes){0};       \
        for (long j = 0; j < k; j++, b += PANEL)                                                  \
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

ROWS multiply_panel(const int adding, const float *a, long a_row, const float *b, float *c, long c_row, long m,
                    long k) {
    long row = 0;
    for (; row + 8 <= m; row += 8) block_8(adding, a + row * a_row, a_row, b, c + row * c_row, c_row, k);
    a += row * a_row;
    c += row * c_row;
    switch (m - row) { /* the late steps of a batch have few rows, so what is left of eight counts */
    case 7: block_7(adding, a, a_row, b, c, c_row, k); break;
    case 6: block_6(adding, a, a_row, b, c, c_row, k); break;
    case 5: block_5(adding, a, a_row, b, c, c_row, k); break;
    case 4: block_4(adding, a, a_row, b, c, c_row, k); break;
    case 3: block_3(adding, a, a_row, b, c, c_row, k); break;
    case 2: block_2(adding, a, a_row, b, c, c_row, k); break;
    case 1: block_1(adding, a, a_row, b, c, c_row, k); break;
    }
}

#define FEW 8

/* c (m, n) = a (m, k) b (k, n), or c + a b, of packed weights b; the rows of a and c are so far apart. */
ROWS multiply(const int adding, const float *a, long a_row, const float *b, float *c, long c_row, long m, long k,
              long n) {
    long column = 0;
    for (; column + PANEL <= n; column += PANEL, b += k * PANEL)
        for (long some = 0; some < PANEL; some += 16 * VECTORS)
            multiply_panel(adding, a, a_row, b + some, c + column + some, c_row, m, k);
    for (long row = 0; column < n && row < m; row += FEW) { /* columns that do not fill a panel */
        float whole[FEW * PANEL];
        long rows = m - row < FEW ? m - row : FEW;
        for (long some = 0; some < PANEL; some += 16 * VECTORS)
            multiply_panel(0, a + row * a_row, a_row, b + some, whole + some, PANEL, rows, k);
        for (long r = 0; r < rows; r++)
            for (long i = column; i < n; i++) {
                float *to = c + (row + r) * c_row + i;
                *to = whole[r * PANEL + i - column] + (adding ? *to : 0.0f);
            }
    }
}

/* ---- Rows: chosen, averaged, summed ---- */

/* Chosen rows of several arrays side by side: out (rows, sum of the widths). */
EXPORT gather(const int64_t *places, const int64_t *widths, long parts, const int64_t *index, float *out, long rows) {
    for (long n = 0; n < rows; n++)
        for (long part = 0; part < parts; part++) {
            const float *x = (const float *)(intptr_t)places[part];
            memcpy(out, x + index[n] * widths[part], (size_t)widths[part] * sizeof(float));
            out += widths[part];
        }
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
            first = first < n ? first : n;
            last = last < n ? last : n;
            if (last - first == 1) {
                memcpy(out, x + first * width, (size_t)width * sizeof(float));
                continue;
            }
            for (long k = 0; k < width; k += 16) { /* in double precision, so that nothing is lost */
                double sum[16] = {0};
                long some = width - k < 16 ? width - k : 16;
                for (long row = first; row < last; row++)
                    for (long j = 0; j < some; j++) sum[j] += x[row * width + k + j];
                for (long j = 0; j < some; j++) out[k + j] = last > first ? (float)(sum[j] / (double)(last - first)) : 0;
            }
        }
}

/* ---- LSTM: i, f, g, o = sigmoid, sigmoid, tanh, sigmoid; c' = f c + i g; h' = o tanh(c') ---- */

ROWS lstm_row(long hidden, float *restrict i, float *restrict f, float *restrict g, float *restrict o,
              const float *restrict before, float *restrict cell, float *restrict squashed, float *restrict state) {
    APART
    for (long k = 0; k < hidden; k++) {
        float enter = sigmoid(i[k]), keep = sigmoid(f[k]), candidate = tangent(g[k]), leave = sigmoid(o[k]);
        float c = enter * candidate + keep * before[k], t = tangent(c);
        i[k] = enter;
        f[k] = keep;
        g[k] = candidate;
        o[k] = leave;
        cell[k] = c;
        squashed[k] = t;
        state[k] = leave * t;
    }
}

/* What the products see of a state of which some is dropped; `keep` is what each sample's is multiplied with. */
ROWS see(long values, const float *restrict state, const float *restrict keep, float *restrict seen) {
    APART
    for (long k = 0; k < values; k++) seen[k] = state[k] * keep[k];
}

ROWS keep_rows(long values, float *restrict gradient, const float *restrict keep) {
    APART
    for (long k = 0; k < values; k++) gradient[k] *= keep[k];
}

ROWS add_kept(long values, float *restrict sum, const float *restrict gradient, const float *restrict keep) {
    APART
    for (long k = 0; k < values; k++) sum[k] += gradient[k] * keep[k];
}

struct lstm {
    long hidden;
    float *gates;          /* (N, 4 hidden): what enters the gates; afterwards their values */
    float *cells;          /* (N, hidden) */
    float *squashed;       /* (N, hidden): tanh of the cells */
    float *states;         /* (N, hidden) */
    float *slopes;         /* (N, 4 hidden): the gradient of what enters the gates */
    const float *given;    /* (N, hidden): the states' own gradient; may be null */
    const float *of_cells; /* (N, hidden): the cells' own; may be null */
    float *carried;        /* (B, hidden): the states' gradient from the step after */
    float *carried_cell;   /* (B, hidden): the cells' */
    const float *keep;     /* (B, hidden): what a state is multiplied with before its product; may be null */
    float *seen;           /* (N, hidden): only with keep: of each row, the state before times keep */
    const float *zeros;    /* (hidden) */
};

/* One step: rows from `at` on; those of the step before begin at `before`, -1 for none. */
ROWS lstm_forward(const struct lstm *a, long at, long count, long before) {
    long h = a->hidden;
    for (long n = 0; n < count; n++) {
        float *gates = a->gates + (at + n) * 4 * h;
        const float *cell = before < 0 ? a->zeros : a->cells + (before + n) * h;
        lstm_row(h, gates, gates + h, gates + 2 * h, gates + 3 * h, cell, a->cells + (at + n) * h,
                 a->squashed + (at + n) * h, a->states + (at + n) * h);
    }
}

ROWS lstm_row_back(long hidden, const float *restrict gates, const float *restrict before,
                   const float *restrict squashed, const float *restrict given, const float *restrict of_cell,
                   const float *restrict carried, float *restrict carried_cell, float *restrict slopes) {
    const float *restrict i = gates, *restrict f = gates + hidden, *restrict g = gates + 2 * hidden,
                          *restrict o = gates + 3 * hidden;
    float *restrict to_i = slopes, *restrict to_f = slopes + hidden, *restrict to_g = slopes + 2 * hidden,
                    *restrict to_o = slopes + 3 * hidden;
    APART
    for (long k = 0; k < hidden; k++) {
        float state = carried[k] + given[k], t = squashed[k], leave = o[k];
        float cell = carried_cell[k] + of_cell[k] + state * leave * (1.0f - t * t);
        to_i[k] = cell * g[k] * i[k] * (1.0f - i[k]);
        to_f[k] = cell * before[k] * f[k] * (1.0f - f[k]);
        to_g[k] = cell * i[k] * (1.0f - g[k] * g[k]);
        to_o[k] = state * t * leave * (1.0f - leave);
        carried_cell[k] = cell * f[k];
    }
}

/* One step back; `carried` holds the slopes of the step after times the recurrent weights. */
ROWS lstm_backward(const struct lstm *a, long at, long count, long before) {
    long h = a->hidden;
    for (long n = 0; n < count; n++) {
        long row = at + n;
        lstm_row_back(h, a->gates + row * 4 * h, before < 0 ? a->zeros : a->cells + (before + n) * h,
                      a->squashed + row * h, a->given ? a->given + row * h : a->zeros,
                      a->of_cells ? a->of_cells + row * h : a->zeros, a->carried + n * h, a->carried_cell + n * h,
                      a->slopes + row * 4 * h);
    }
}

/* All steps, of so many samples each; packed weights (hidden, 4 hidden). */
EXPORT lstm(const struct lstm *a, long steps, const int64_t *sizes, const float *weights) {
    long h = a->hidden, at = 0, before = -1;
    for (long step = 0; step < steps; step++) {
        long count = sizes[step];
        if (before >= 0) {
            const float *from = a->states + before * h;
            if (a->keep) {
                see(count * h, from, a->keep, a->seen + at * h);
                from = a->seen + at * h;
            }
            multiply(1, from, h, weights, a->gates + at * 4 * h, 4 * h, count, h, 4 * h);
        }
        lstm_forward(a, at, count, before);
        before = at;
        at += count;
    }
}

/* All steps back; packed weights (4 hidden, hidden); `at` is the number of all rows. */
EXPORT lstm_back(const struct lstm *a, long steps, const int64_t *sizes, const float *weights, long at) {
    long h = a->hidden;
    for (long step = steps - 1; step >= 0; step--) {
        long count = sizes[step];
        at -= count;
        lstm_backward(a, at, count, step ? at - sizes[step - 1] : -1);
        if (!step) break;
        multiply(0, a->slopes + at * 4 * h, 4 * h, weights, a->carried, h, count, 4 * h, h);
        if (a->keep) keep_rows(count * h, a->carried, a->keep);
    }
}

/* ---- GRU: r, z = sigmoid; n = tanh(x + r (U h + c)); h' = n + z (h - n) ---- */

struct gru {
    long hidden;
    float *gates;       /* (N, 3 hidden): what enters r, z and n but for the state's part; afterwards their values */
    float *product;     /* (N, hidden): U h + c */
    float *states;      /* (N, hidden) */
    const float *bias;  /* (hidden): c */
    const float *keep;  /* (B, hidden): what a state is multiplied with before its products; may be null */
    float *seen;        /* (N, hidden): only with keep: of each row, the state before times keep */
    float *slopes;      /* (N, 3 hidden): the gradient of what enters r, z and n */
    float *of_product;  /* (N, hidden): that of U h + c */
    const float *given; /* (N, hidden): the states' own gradient */
    float *carried;     /* (B, hidden): the states' gradient from the step after */
    float *room;        /* (B, hidden): only with keep */
    const float *zeros; /* (hidden) */
};

ROWS gru_row(long hidden, float *restrict gates, float *restrict product, const float *restrict bias,
             const float *restrict before, float *restrict state) {
    float *restrict r = gates, *restrict z = gates + hidden, *restrict n = gates + 2 * hidden;
    APART
    for (long k = 0; k < hidden; k++) {
        float reset = sigmoid(r[k]), update = sigmoid(z[k]), seen = product[k] + bias[k];
        float candidate = tangent(n[k] + reset * seen);
        r[k] = reset;
        z[k] = update;
        n[k] = candidate;
        product[k] = seen;
        state[k] = candidate + update * (before[k] - candidate);
    }
}

/* All steps; packed weights of r and z (hidden, 2 hidden) and of n (hidden, hidden). */
EXPORT gru(const struct gru *a, long steps, const int64_t *sizes, const float *to_gates, const float *to_candidate) {
    long h = a->hidden, at = 0, before = -1;
    for (long step = 0; step < steps; step++) {
        long count = sizes[step];
        float *product = a->product + at * h;
        if (before >= 0) {
            const float *from = a->states + before * h;
            if (a->keep) {
                see(count * h, from, a->keep, a->seen + at * h);
                from = a->seen + at * h;
            }
            multiply(1, from, h, to_gates, a->gates + at * 3 * h, 3 * h, count, h, 2 * h);
            multiply(0, from, h, to_candidate, product, h, count, h, h);
        } else {
            for (long k = 0; k < count * h; k++) product[k] = 0.0f;
        }
        for (long n = 0; n < count; n++)
            gru_row(h, a->gates + (at + n) * 3 * h, product + n * h, a->bias,
                    before < 0 ? a->zeros : a->states + (before + n) * h, a->states + (at + n) * h);
        before = at;
        at += count;
    }
}

ROWS gru_row_back(long hidden, const float *restrict gates, const float *restrict product,
                  const float *restrict before, const float *restrict given, float *restrict carried,
                  float *restrict slopes, float *restrict of_product) {
    const float *restrict r = gates, *restrict z = gates + hidden, *restrict n = gates + 2 * hidden;
    float *restrict to_r = slopes, *restrict to_z = slopes + hidden, *restrict to_n = slopes + 2 * hidden;
    APART
    for (long k = 0; k < hidden; k++) {
        float state = carried[k] + given[k], reset = r[k], update = z[k], candidate = n[k];
        float entering = state * (1.0f - update) * (1.0f - candidate * candidate);
        to_r[k] = entering * product[k] * reset * (1.0f - reset);
        to_z[k] = state * (before[k] - candidate) * update * (1.0f - update);
        to_n[k] = entering;
        of_product[k] = entering * reset;
        carried[k] = state * update;
    }
}

/* All steps back; packed weights of r and z (2 hidden, hidden) and of n (hidden, hidden); `at` as above. */
EXPORT gru_back(const struct gru *a, long steps, const int64_t *sizes, const float *from_gates,
                const float *from_candidate, long at) {
    long h = a->hidden;
    for (long step = steps - 1; step >= 0; step--) {
        long count = sizes[step];
        at -= count;
        for (long n = 0; n < count; n++) {
            long row = at + n;
            gru_row_back(h, a->gates + row * 3 * h, a->product + row * h,
                         step ? a->states + (at - sizes[step - 1] + n) * h : a->zeros, a->given + row * h,
                         a->carried + n * h, a->slopes + row * 3 * h, a->of_product + row * h);
        }
        if (!step) break;
        float *to = a->keep ? a->room : a->carried;
        if (a->keep)
            for (long k = 0; k < count * h; k++) to[k] = 0.0f;
        multiply(1, a->slopes + at * 3 * h, 3 * h, from_gates, to, h, count, 2 * h, h);
        multiply(1, a->of_product + at * h, h, from_candidate, to, h, count, h, h);
        if (a->keep) add_kept(count * h, a->carried, a->room, a->keep);
    }
}

/* ---- Gated memory: r, u = the parts of d relu(s + m V); m' = sigmoid(r A + a) m + sigmoid(u B + b) c ---- */

struct memory {
    long size, inner;       /* of the memory; of r and u together */
    float *hidden;          /* (N, inner): what enters the relu; afterwards r and u */
    const float *keep;      /* (N, inner): d; may be null */
    float *gates;           /* (N, 2 size): what enters the sigmoids but for its bias; afterwards the gates */
    const float *bias;      /* (2 size) */
    const float *candidate; /* (N, size): c */
    float *memory;          /* (N, size) */
    float *slopes;          /* (N, 2 size): the gradient of what enters the sigmoids */
    float *of_hidden;       /* (N, inner): of what enters the relu */
    float *of_candidate;    /* (N, size) */
    const float *given;     /* (N, size): the memory's own gradient */
    float *carried;         /* (B, size): the memory's gradient from the step after */
    const float *zeros;     /* (size) */
};

ROWS relu_row(long width, float *restrict x, const float *restrict keep) {
    APART
    for (long k = 0; k < width; k++) x[k] = (x[k] > 0.0f ? x[k] : 0.0f) * keep[k];
}

ROWS relu_row_all(long width, float *restrict x) {
    /* what is not a number stays so */
    APART
    for (long k = 0; k < width; k++) x[k] = x[k] < 0.0f ? 0.0f : x[k];
}

ROWS memory_hidden(const struct memory *a, long at, long count) {
    for (long row = at; row < at + count; row++) {
        float *x = a->hidden + row * a->inner;
        relu_row_all(a->inner, x);
        if (a->keep) relu_row(a->inner, x, a->keep + row * a->inner);
    }
}

ROWS memory_row(long size, float *restrict retain, float *restrict update, const float *restrict retain_bias,
                const float *restrict update_bias, const float *restrict candidate, const float *restrict before,
                float *restrict memory) {
    APART
    for (long k = 0; k < size; k++) {
        float r = sigmoid(retain[k] + retain_bias[k]), u = sigmoid(update[k] + update_bias[k]);
        retain[k] = r;
        update[k] = u;
        memory[k] = r * before[k] + u * candidate[k];
    }
}

ROWS memory_forward(const struct memory *a, long at, long count, long before) {
    long size = a->size;
    for (long n = 0; n < count; n++) {
        float *gates = a->gates + (at + n) * 2 * size;
        memory_row(size, gates, gates + size, a->bias, a->bias + size, a->candidate + (at + n) * size,
                   before < 0 ? a->zeros : a->memory + (before + n) * size, a->memory + (at + n) * size);
    }
}

ROWS memory_row_back(long size, const float *restrict gates, const float *restrict before,
                     const float *restrict candidate, const float *restrict given, float *restrict carried,
                     float *restrict slopes, float *restrict of_candidate) {
    const float *restrict retain = gates, *restrict update = gates + size;
    float *restrict to_retain = slopes, *restrict to_update = slopes + size;
    APART
    for (long k = 0; k < size; k++) {
        float memory = carried[k] + given[k], r = retain[k], u = update[k];
        to_retain[k] = memory * before[k] * r * (1.0f - r);
        to_update[k] = memory * candidate[k] * u * (1.0f - u);
        of_candidate[k] = memory * u;
        carried[k] = memory * r;
    }
}

/* One step back, as far as the products that lead to r and u. */
ROWS memory_backward(const struct memory *a, long at, long count, long before) {
    long size = a->size;
    for (long n = 0; n < count; n++) {
        long row = at + n;
        memory_row_back(size, a->gates + row * 2 * size, before < 0 ? a->zeros : a->memory + (before + n) * size,
                        a->candidate + row * size, a->given + row * size, a->carried + n * size,
                        a->slopes + row * 2 * size, a->of_candidate + row * size);
    }
}

ROWS pass_row(long width, float *restrict gradient, const float *restrict hidden, const float *restrict keep) {
    APART
    for (long k = 0; k < width; k++) gradient[k] = hidden[k] > 0.0f ? gradient[k] * keep[k] : 0.0f;
}

ROWS pass_row_all(long width, float *restrict gradient, const float *restrict hidden) {
    APART
    for (long k = 0; k < width; k++) gradient[k] = hidden[k] > 0.0f ? gradient[k] : 0.0f;
}

/* The gradient of r and u turned into that of what enters the relu. */
ROWS memory_hidden_backward(const struct memory *a, long at, long count) {
    for (long row = at; row < at + count; row++) {
        float *gradient = a->of_hidden + row * a->inner;
        const float *hidden = a->hidden + row * a->inner;
        if (a->keep)
            pass_row(a->inner, gradient, hidden, a->keep + row * a->inner);
        else
            pass_row_all(a->inner, gradient, hidden);
    }
}

/* All steps; packed weights of V (size, inner), A (r, size) and B (u, size), of which r has `first` columns. */
EXPORT memory(const struct memory *a, long steps, const int64_t *sizes, const float *to_hidden, const float *to_retain,
              const float *to_update, long first) {
    long size = a->size, inner = a->inner, at = 0, before = -1;
    for (long step = 0; step < steps; step++) {
        long count = sizes[step];
        float *hidden = a->hidden + at * inner, *gates = a->gates + at * 2 * size;
        if (before >= 0) multiply(1, a->memory + before * size, size, to_hidden, hidden, inner, count, size, inner);
        memory_hidden(a, at, count);
        multiply(0, hidden, inner, to_retain, gates, 2 * size, count, first, size);
        multiply(0, hidden + first, inner, to_update, gates + size, 2 * size, count, inner - first, size);
        memory_forward(a, at, count, before);
        before = at;
        at += count;
    }
}

/* All steps back; packed weights of V (inner, size), A (size, r) and B (size, u); `at` is the number of all rows. */
EXPORT memory_back(const struct memory *a, long steps, const int64_t *sizes, const float *from_hidden,
                   const float *from_retain, const float *from_update, long first, long at) {
    long size = a->size, inner = a->inner;
    for (long step = steps - 1; step >= 0; step--) {
        long count = sizes[step];
        at -= count;
        float *hidden = a->of_hidden + at * inner, *slopes = a->slopes + at * 2 * size;
        memory_backward(a, at, count, step ? at - sizes[step - 1] : -1);
        multiply(0, slopes, 2 * size, from_retain, hidden, inner, count, size, first);
        multiply(0, slopes + size, 2 * size, from_update, hidden + first, inner, count, size, inner - first);
        memory_hidden_backward(a, at, count);
        if (step) multiply(1, hidden, inner, from_hidden, a->carried, size, count, inner, size);
    }
}

/* ---- The outer product of two vectors for each sample, of which some is dropped: see affectus.nn.product ---- */

struct product {
    long batch, left_width, right_width;
    const float *left;    /* (batch, left_width) */
    const float *right;   /* (batch, right_width) */
    float *part;          /* (batch, count * right_width): of the product, or of its gradient */
    float *of_left;       /* (batch, left_width) */
    float *of_right;      /* (batch, right_width) */
    const int32_t *words; /* (batch, most * right_width): one decision to a bit; null to drop nothing */
};

ROWS product_row(long width, int dropping, float left, const float *restrict right, const int32_t *restrict words,
                 int32_t bit, float *restrict out) {
    APART
    for (long k = 0; k < width; k++) {
        float value = left * right[k];
        out[k] = !dropping || (words[k] & bit) ? value : 0.0f;
    }
}

/* The part that values `first` to `first + count` of the left factor have; `most` is the count of a whole part. */
EXPORT product_make(const struct product *a, long first, long count, long most, long bit) {
    long width = a->right_width;
    for (long n = 0; n < a->batch; n++)
        for (long i = 0; i < count; i++) {
            float left = a->left[n * a->left_width + first + i], *out = a->part + (n * count + i) * width;
            const float *right = a->right + n * width;
            if (a->words)
                product_row(width, 1, left, right, a->words + (n * most + i) * width, (int32_t)(1u << bit), out);
            else
                product_row(width, 0, left, right, 0, 0, out);
        }
}

#define LANES 16

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

/* From the gradient of a part to that of both factors: written on the left, added to on the right. */
EXPORT product_back(const struct product *a, long first, long count, long most, long bit) {
    long width = a->right_width;
    for (long n = 0; n < a->batch; n++)
        for (long i = 0; i < count; i++) {
            long at = n * a->left_width + first + i;
            const float *right = a->right + n * width, *out = a->part + (n * count + i) * width;
            float *of_right = a->of_right + n * width;
            if (a->words)
                a->of_left[at] = product_row_back(width, 1, a->left[at], right, a->words + (n * most + i) * width,
                                                  (int32_t)(1u << bit), out, of_right);
            else
                a->of_left[at] = product_row_back(width, 0, a->left[at], right, 0, 0, out, of_right);
        }
}

/* ---- Vectors side by side, each times a number of its row ---- */

/* out (rows, sum of the widths) from parts (rows, width); the numbers of a row stand `apart` numbers after the last's. */
EXPORT weigh(const float *const *parts, const long *widths, long count, const float *numbers, long apart, float *out,
             long rows) {
    for (long n = 0; n < rows; n++)
        for (long p = 0; p < count; p++) {
            product_row(widths[p], 0, numbers[n * apart + p], parts[p] + n * widths[p], 0, 0, out);
            out += widths[p];
        }
}

/* The gradient of out to those of the parts and of the numbers (rows, count). */
EXPORT weigh_back(const float *const *parts, const long *widths, long count, const float *numbers, long apart,
                  const float *of_out, long rows, float *const *of_parts, float *of_numbers) {
    for (long n = 0; n < rows; n++)
        for (long p = 0; p < count; p++) {
            long width = widths[p];
            float *to = of_parts[p] + n * width;
            for (long k = 0; k < width; k++) to[k] = 0.0f;
            *of_numbers++ = product_row_back(width, 0, numbers[n * apart + p], parts[p] + n * width, 0, 0, of_out, to);
            of_out += width;
        }
}

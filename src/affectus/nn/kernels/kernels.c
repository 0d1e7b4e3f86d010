/* All steps of a recurrence in one call, and what surrounds its products in one pass over the rows.

   PyTorch takes an operator, a call and a pass through memory for each operation of each step. All arrays are of single
   precision and contiguous; a row is a sample at a step, and the rows of a step stand one after the other, as
   affectus.nn.packing has them. Nothing is checked here: affectus.nn.kernels is what calls it.

   The loops are plain, for the compiler to turn into vector instructions; there is nothing of one processor in them. */

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <immintrin.h>

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
        long rows = m - row < FEW ? m - row : FEW;
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

/* Do a function's work on all samples; those of a step are the first `sizes[step]`, no more than in the step before.
   A share has as many rows as another. No result depends on how they are shared out. */
static void share(void (*function)(const void *, long, long), const void *work, long steps, const int64_t *sizes,
                  long cost, long threads) {
    long samples = steps ? sizes[0] : 0, rows = 0;
    for (long step = 0; step < steps; step++) rows += sizes[step];
    threads = lesser(threads, MOST);
    if (!start || threads < 2 || samples < 2 || rows * cost < WORTH) {
        function(work, 0, samples);
        return;
    }
    long bounds[MOST + 1] = {0}, length = steps, some = 0;
    struct shares shares = {.function = function, .work = work, .bounds = bounds, .mode = _mm_getcsr()};
    for (long sample = 0; sample < samples; sample++) { /* of falling length */
        while (sizes[length - 1] <= sample) length--;
        some += length;
        if (some * threads >= rows * (shares.count + 1)) bounds[++shares.count] = sample + 1;
    }
    start(take_shares, &shares, (unsigned)threads, 0);
}

/* Do a function's work on so many things, none of which has more to do than another. */
static void share_evenly(void (*function)(const void *, long, long), const void *work, long things, long cost,
                         long threads) {
    threads = lesser(lesser(threads, MOST), things);
    if (!start || threads < 2 || things * cost < WORTH) {
        function(work, 0, things);
        return;
    }
    long bounds[MOST + 1];
    for (long i = 0; i <= threads; i++) bounds[i] = i * things / threads;
    struct shares shares = {function, work, threads, bounds, 0, _mm_getcsr()};
    start(take_shares, &shares, (unsigned)threads, 0);
}

/* What goes through the steps of a recurrence. */
struct course {
    const void *arrays;
    long steps;
    const int64_t *sizes; /* rows of each step */
    const float *weights[3];
    long first, rows;
};

/* ---- Rows: chosen, averaged, summed ---- */

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

/* Samples of one step: its rows begin at `at`, those of the step before at `before`, -1 for none. */
ROWS lstm_forward(const struct lstm *a, long at, long low, long high, long before) {
    long h = a->hidden;
    for (long n = low; n < high; n++) {
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
ROWS lstm_backward(const struct lstm *a, long at, long low, long high, long before) {
    long h = a->hidden;
    for (long n = low; n < high; n++) {
        long row = at + n;
        lstm_row_back(h, a->gates + row * 4 * h, before < 0 ? a->zeros : a->cells + (before + n) * h,
                      a->squashed + row * h, a->given ? a->given + row * h : a->zeros,
                      a->of_cells ? a->of_cells + row * h : a->zeros, a->carried + n * h, a->carried_cell + n * h,
                      a->slopes + row * 4 * h);
    }
}

static void lstm_share(const void *work, long low, long high) {
    const struct course *course = work;
    const struct lstm *a = course->arrays;
    long h = a->hidden, at = 0, before = -1;
    for (long step = 0; step < course->steps; step++) {
        long last = lesser(course->sizes[step], high), count = last - low;
        if (count <= 0) break;
        if (before >= 0) {
            const float *from = a->states + (before + low) * h;
            if (a->keep) {
                see(count * h, from, a->keep + low * h, a->seen + (at + low) * h);
                from = a->seen + (at + low) * h;
            }
            multiply(1, from, h, course->weights[0], a->gates + (at + low) * 4 * h, 4 * h, count, h, 4 * h);
        }
        lstm_forward(a, at, low, last, before);
        before = at;
        at += course->sizes[step];
    }
}

/* All steps, of so many samples each; packed weights (hidden, 4 hidden). */
EXPORT lstm(const struct lstm *a, long steps, const int64_t *sizes, long threads, const float *weights) {
    struct course course = {a, steps, sizes, {weights}, 0, 0};
    share(lstm_share, &course, steps, sizes, 4 * a->hidden * a->hidden, threads);
}

static void lstm_back_share(const void *work, long low, long high) {
    const struct course *course = work;
    const struct lstm *a = course->arrays;
    long h = a->hidden, at = course->rows;
    for (long step = course->steps - 1; step >= 0; step--) {
        long last = lesser(course->sizes[step], high), count = last - low;
        at -= course->sizes[step];
        if (count <= 0) continue;
        lstm_backward(a, at, low, last, step ? at - course->sizes[step - 1] : -1);
        if (!step) break;
        float *carried = a->carried + low * h;
        multiply(0, a->slopes + (at + low) * 4 * h, 4 * h, course->weights[0], carried, h, count, 4 * h, h);
        if (a->keep) keep_rows(count * h, carried, a->keep + low * h);
    }
}

/* All steps back; packed weights (4 hidden, hidden); `rows` is the number of all rows. */
EXPORT lstm_back(const struct lstm *a, long steps, const int64_t *sizes, long threads, const float *weights,
                 long rows) {
    struct course course = {a, steps, sizes, {weights}, 0, rows};
    share(lstm_back_share, &course, steps, sizes, 4 * a->hidden * a->hidden, threads);
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

static void gru_share(const void *work, long low, long high) {
    const struct course *course = work;
    const struct gru *a = course->arrays;
    long h = a->hidden, at = 0, before = -1;
    for (long step = 0; step < course->steps; step++) {
        long last = lesser(course->sizes[step], high), count = last - low;
        if (count <= 0) break;
        float *product = a->product + (at + low) * h;
        if (before >= 0) {
            const float *from = a->states + (before + low) * h;
            if (a->keep) {
                see(count * h, from, a->keep + low * h, a->seen + (at + low) * h);
                from = a->seen + (at + low) * h;
            }
            multiply(1, from, h, course->weights[0], a->gates + (at + low) * 3 * h, 3 * h, count, h, 2 * h);
            multiply(0, from, h, course->weights[1], product, h, count, h, h);
        } else {
            for (long k = 0; k < count * h; k++) product[k] = 0.0f;
        }
        for (long n = low; n < last; n++)
            gru_row(h, a->gates + (at + n) * 3 * h, a->product + (at + n) * h, a->bias,
                    before < 0 ? a->zeros : a->states + (before + n) * h, a->states + (at + n) * h);
        before = at;
        at += course->sizes[step];
    }
}

/* All steps; packed weights of r and z (hidden, 2 hidden) and of n (hidden, hidden). */
EXPORT gru(const struct gru *a, long steps, const int64_t *sizes, long threads, const float *to_gates,
           const float *to_candidate) {
    struct course course = {a, steps, sizes, {to_gates, to_candidate}, 0, 0};
    share(gru_share, &course, steps, sizes, 3 * a->hidden * a->hidden, threads);
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

static void gru_back_share(const void *work, long low, long high) {
    const struct course *course = work;
    const struct gru *a = course->arrays;
    long h = a->hidden, at = course->rows;
    for (long step = course->steps - 1; step >= 0; step--) {
        long last = lesser(course->sizes[step], high), count = last - low;
        at -= course->sizes[step];
        if (count <= 0) continue;
        for (long n = low; n < last; n++) {
            long row = at + n;
            gru_row_back(h, a->gates + row * 3 * h, a->product + row * h,
                         step ? a->states + (at - course->sizes[step - 1] + n) * h : a->zeros, a->given + row * h,
                         a->carried + n * h, a->slopes + row * 3 * h, a->of_product + row * h);
        }
        if (!step) break;
        float *carried = a->carried + low * h, *to = a->keep ? a->room + low * h : carried;
        if (a->keep)
            for (long k = 0; k < count * h; k++) to[k] = 0.0f;
        multiply(1, a->slopes + (at + low) * 3 * h, 3 * h, course->weights[0], to, h, count, 2 * h, h);
        multiply(1, a->of_product + (at + low) * h, h, course->weights[1], to, h, count, h, h);
        if (a->keep) add_kept(count * h, carried, to, a->keep + low * h);
    }
}

/* All steps back; packed weights of r and z (2 hidden, hidden) and of n (hidden, hidden); `rows` as above. */
EXPORT gru_back(const struct gru *a, long steps, const int64_t *sizes, long threads, const float *from_gates,
                const float *from_candidate, long rows) {
    struct course course = {a, steps, sizes, {from_gates, from_candidate}, 0, rows};
    share(gru_back_share, &course, steps, sizes, 3 * a->hidden * a->hidden, threads);
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

ROWS memory_forward(const struct memory *a, long at, long low, long high, long before) {
    long size = a->size;
    for (long n = low; n < high; n++) {
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
ROWS memory_backward(const struct memory *a, long at, long low, long high, long before) {
    long size = a->size;
    for (long n = low; n < high; n++) {
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

/* Weights are of V, A and B; A reads the `first` columns of r and u. */
static void memory_share(const void *work, long low, long high) {
    const struct course *course = work;
    const struct memory *a = course->arrays;
    const float *const *weights = course->weights;
    long size = a->size, inner = a->inner, first = course->first, at = 0, before = -1;
    for (long step = 0; step < course->steps; step++) {
        long last = lesser(course->sizes[step], high), count = last - low, row = at + low;
        if (count <= 0) break;
        float *hidden = a->hidden + row * inner, *gates = a->gates + row * 2 * size;
        if (before >= 0)
            multiply(1, a->memory + (before + low) * size, size, weights[0], hidden, inner, count, size, inner);
        memory_hidden(a, row, count);
        multiply(0, hidden, inner, weights[1], gates, 2 * size, count, first, size);
        multiply(0, hidden + first, inner, weights[2], gates + size, 2 * size, count, inner - first, size);
        memory_forward(a, at, low, last, before);
        before = at;
        at += course->sizes[step];
    }
}

/* All steps; packed weights of V (size, inner), A (r, size) and B (u, size), of which r has `first` columns. */
EXPORT memory(const struct memory *a, long steps, const int64_t *sizes, long threads, const float *to_hidden,
              const float *to_retain, const float *to_update, long first) {
    struct course course = {a, steps, sizes, {to_hidden, to_retain, to_update}, first, 0};
    share(memory_share, &course, steps, sizes, 2 * a->inner * a->size, threads);
}

static void memory_back_share(const void *work, long low, long high) {
    const struct course *course = work;
    const struct memory *a = course->arrays;
    const float *const *weights = course->weights;
    long size = a->size, inner = a->inner, first = course->first, at = course->rows;
    for (long step = course->steps - 1; step >= 0; step--) {
        long last = lesser(course->sizes[step], high), count = last - low;
        at -= course->sizes[step];
        if (count <= 0) continue;
        long row = at + low;
        float *hidden = a->of_hidden + row * inner, *slopes = a->slopes + row * 2 * size;
        memory_backward(a, at, low, last, step ? at - course->sizes[step - 1] : -1);
        multiply(0, slopes, 2 * size, weights[1], hidden, inner, count, size, first);
        multiply(0, slopes + size, 2 * size, weights[2], hidden + first, inner, count, size, inner - first);
        memory_hidden_backward(a, row, count);
        if (step) multiply(1, hidden, inner, weights[0], a->carried + low * size, size, count, inner, size);
    }
}

/* All steps back; packed weights of V (inner, size), A (size, r) and B (size, u); `rows` is the number of all rows. */
EXPORT memory_back(const struct memory *a, long steps, const int64_t *sizes, long threads, const float *from_hidden,
                   const float *from_retain, const float *from_update, long first, long rows) {
    struct course course = {a, steps, sizes, {from_hidden, from_retain, from_update}, first, rows};
    share(memory_back_share, &course, steps, sizes, 2 * a->inner * a->size, threads);
}

/* ---- A linear layer upon the outer product of two vectors, of which some is dropped: see affectus.nn.product ---- */

struct product {
    long batch, left_width, right_width, out;
    long size;             /* values on the left of a part of `words` */
    const float *left;     /* (batch, left_width) */
    const float *right;    /* (batch, right_width) */
    const float *weight;   /* (out, left_width * right_width) */
    const int32_t *words;  /* (parts / 32, batch, size * right_width): part n has bit n % 32; null to drop nothing */
    float *sums;           /* (CHUNKS, out, batch): what the layer makes of a chunk */
    const float *grad;     /* (batch, out): of the layer's output */
    const float *turned;   /* (out, batch): the same */
    float *of_weight;      /* as weight */
    float *of_left;        /* as left */
    float *of_right;       /* (CHUNKS, batch, right_width): added to */
};

#define CHUNKS 8     /* that the values on the left are cut into, so that sums do not depend on how many threads there are */
#define ROOM 500000 /* bytes that the blocks of a thread may take, to stay in the cache */
#define LANES 16
#define LINES 12 /* of the cache that are asked for ahead with each block that is multiplied */

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
        long end = (chunk + 1) * a->left_width / CHUNKS;
        for (long k = 0; k < size; k++) sums[k] = (lanes){0};
        for (long first = chunk * a->left_width / CHUNKS; first < end; first += most) {
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
    share_evenly(function, a, CHUNKS, a->batch * a->left_width * a->right_width / CHUNKS * a->out, threads);
}

/* The layer without its bias. */
EXPORT product(const struct product *a, long threads) { share_product(product_share, a, threads); }

/* c (m, columns) = a (m, k) b (k, columns), of whole panels of b, whose rows are so far apart. */
static void multiply_rows(const float *a, long a_row, const float *b, long b_row, float *c, long c_row, long m, long k,
                          long columns, struct ahead *ahead, int lines) {
    for (long column = 0; column < columns; column += 16 * VECTORS)
        for (long row = 0; row < m; row += FEW) {
            ask(ahead, lines);
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
        long end = (chunk + 1) * a->left_width / CHUNKS;
        for (long first = chunk * a->left_width / CHUNKS; first < end; first += most) {
            long count = lesser(end - first, most), row = apart(a, count);
            product_block(a, first, count, made);
            struct ahead ahead = weights_ahead(a, first, most, end);
            multiply_rows(a->turned, a->batch, made, row, of_weights, row, a->out, a->batch, row, &ahead, LINES);
            for (long o = 0; o < a->out; o++)
                put(a->of_weight + o * whole + first * width, of_weights + o * row, count * width);
            weight_block(a, first, count, weights);
            multiply_rows(a->grad, a->out, weights, row, of_made, row, a->batch, a->out, row, &ahead, LINES);
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
    free(made);
    free(weights);
    free(of_made);
    free(of_weights);
}

/* From the gradient of the layer's output to those of its weights and of both factors. */
EXPORT product_back(const struct product *a, long threads) { share_product(product_back_share, a, threads); }

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

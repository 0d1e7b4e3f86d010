/* Recurrences: all steps in one call, each thread some of the samples. */

#pragma once

#include "base.h"

/* What goes through the steps of a recurrence. */
struct course {
    const void *arrays;
    long steps;
    const int64_t *sizes; /* rows of each step */
    const float *weights[3];
    long first, rows;
};

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

/* 3x3 convolutions of many channels on the CPU, by Winograd's algorithm F(2x2, 3x3).

   Each 2x2 tile of the output takes 16 products of a channel's numbers instead of 36: with the tile's 4x4 inputs d,
   the filter g, and *, the product of corresponding numbers, it is

       A' [(G g G') * (B' d B)] A,
            1  0 -1  0         1    0    0           1  1  1  0
       B' = 0  1  1  0     G = 1/2  1/2  1/2    A' = 0  1 -1 -1
            0 -1  1  0         1/2 -1/2  1/2
            0  1  0 -1         0    0    1

   and summed over input channels, it is 16 products of matrices, (tiles x C_in) (C_in x C_out). The cotangent of the
   filter is that algorithm's adjoint, G' [Σ (A v A') * (B' d B)] G; that of the input is a convolution of v with the
   transposed filters.

   Images (B, H, W, T·C) have their channels last in memory, those of task t at t·C; so do filters, (T·C_out, 3, 3,
   C_in). All functions sum the convolutions of one or two pairs ("terms"). They work on PATCH tiles at a time, which
   stay in the cache, and to the same bits whatever the number of threads. */

#include "conv.h"

#define PATCH (6 * ROWS)
#define HALF ((real)0.5)

/* The gradient of the filters sums at least SHARE patches, if there are so many, in each of at most SHARES sums. */
#define SHARE 16
#define SHARES 8

/* Images whose pixels are `pixel` numbers apart, each cut into rows x columns tiles. */
typedef struct {
    long height, width, pixel, rows, columns, tiles;
} Images;

static Images images_of(long B, long H, long W, long pixel)
{
    long rows = (H + 1) / 2, columns = (W + 1) / 2;
    return (Images){H, W, pixel, rows, columns, B * rows * columns};
}

/* Where the pixel (i, j) of a tile is, which may lie beside it; `none` beyond the image, and beyond the last tile. */
static inline const real *pixel_at(Images of, const real *images, long tile, long i, long j, const real *none)
{
    long image = tile / (of.rows * of.columns), place = tile % (of.rows * of.columns);
    i += 2 * (place / of.columns), j += 2 * (place % of.columns);
    if (tile >= of.tiles || i < 0 || i >= of.height || j < 0 || j >= of.width)
        return none;
    return images + ((image * of.height + i) * of.width + j) * of.pixel;
}

/* --- the transforms ---------------------------------------------------------------------------------------- */

/* B' d B of a tile's C channels: its 16 numbers are `step` apart. */
static void transform_input(Images of, const real *x, long tile, long C, const real *zeros, real *to, long step)
{
    const real *d[4][4];
    for (long i = 0; i < 4; i++)
        for (long j = 0; j < 4; j++)
            d[i][j] = pixel_at(of, x, tile, i - 1, j - 1, zeros);
    for (long c = 0; c < C; c += LANES) {
        vector t[4][4];
        UNROLLED(j, 4)
        {
            vector d0 = load(d[0][j] + c), d1 = load(d[1][j] + c), d2 = load(d[2][j] + c), d3 = load(d[3][j] + c);
            t[0][j] = d0 - d2, t[1][j] = d1 + d2, t[2][j] = d2 - d1, t[3][j] = d1 - d3;
        }
        UNROLLED(i, 4)
        {
            real *row = to + 4 * i * step + c;
            store(row, t[i][0] - t[i][2]);
            store(row + step, t[i][1] + t[i][2]);
            store(row + 2 * step, t[i][2] - t[i][1]);
            store(row + 3 * step, t[i][1] - t[i][3]);
        }
    }
}

/* A' m A of 16 numbers that are `step` apart, into a tile of y. */
static void transform_output(Images of, const real *m, long step, real *y, long tile, long C)
{
    real *to[2][2];
    for (long i = 0; i < 2; i++)
        for (long j = 0; j < 2; j++)
            to[i][j] = (real *)pixel_at(of, y, tile, i, j, 0);
    for (long c = 0; c < C; c += LANES) {
        vector t[2][4];
        UNROLLED(j, 4)
        {
            const real *from = m + j * step + c;
            vector m1 = load(from + 4 * step), m2 = load(from + 8 * step);
            t[0][j] = load(from) + m1 + m2, t[1][j] = m1 - m2 - load(from + 12 * step);
        }
        UNROLLED(i, 2)
        {
            if (to[i][0])
                store(to[i][0] + c, t[i][0] + t[i][1] + t[i][2]);
            if (to[i][1])
                store(to[i][1] + c, t[i][1] - t[i][2] - t[i][3]);
        }
    }
}

/* A v A' of a tile. */
static void transform_cotangent(Images of, const real *v, long tile, long C, const real *zeros, real *to, long step)
{
    const real *d[2][2];
    for (long i = 0; i < 2; i++)
        for (long j = 0; j < 2; j++)
            d[i][j] = pixel_at(of, v, tile, i, j, zeros);
    for (long c = 0; c < C; c += LANES) {
        vector t[4][2];
        UNROLLED(j, 2)
        {
            vector d0 = load(d[0][j] + c), d1 = load(d[1][j] + c);
            t[0][j] = d0, t[1][j] = d0 + d1, t[2][j] = d0 - d1, t[3][j] = -d1;
        }
        UNROLLED(i, 4)
        {
            real *row = to + 4 * i * step + c;
            store(row, t[i][0]);
            store(row + step, t[i][0] + t[i][1]);
            store(row + 2 * step, t[i][0] - t[i][1]);
            store(row + 3 * step, -t[i][1]);
        }
    }
}

static inline vector every(const real *from, long step)
{
    vector v;
    UNROLLED(l, LANES) v[l] = from[l * step];
    return v;
}

/* G g G' of LANES filters, `across` numbers apart, whose taps are `tap` numbers apart, from the first to the last. */
static inline void transform_filters(const real *w, long across, long tap, real *to, long step)
{
    vector t[4][3];
    UNROLLED(j, 3)
    {
        vector g0 = every(w + j * tap, across), g1 = every(w + (3 + j) * tap, across);
        vector g2 = every(w + (6 + j) * tap, across);
        t[0][j] = g0, t[1][j] = (g0 + g2 + g1) * HALF, t[2][j] = (g0 + g2 - g1) * HALF, t[3][j] = g2;
    }
    UNROLLED(i, 4)
    {
        real *row = to + 4 * i * step;
        store(row, t[i][0]);
        store(row + step, (t[i][0] + t[i][2] + t[i][1]) * HALF);
        store(row + 2 * step, (t[i][0] + t[i][2] - t[i][1]) * HALF);
        store(row + 3 * step, t[i][2]);
    }
}

/* G' u G of 16 numbers that are `step` apart, into the taps of a row of filters. */
static void transform_back(const real *u, long step, real *w, long C)
{
    for (long c = 0; c < C; c += LANES, u += LANES, w += LANES) {
        vector t[3][4];
        UNROLLED(j, 4)
        {
            vector u1 = load(u + (4 + j) * step), u2 = load(u + (8 + j) * step);
            t[0][j] = load(u + j * step) + (u1 + u2) * HALF, t[1][j] = (u1 - u2) * HALF;
            t[2][j] = (u1 + u2) * HALF + load(u + (12 + j) * step);
        }
        UNROLLED(i, 3)
        {
            store(w + 3 * i * C, t[i][0] + (t[i][1] + t[i][2]) * HALF);
            store(w + (3 * i + 1) * C, (t[i][1] - t[i][2]) * HALF);
            store(w + (3 * i + 2) * C, (t[i][1] + t[i][2]) * HALF + t[i][3]);
        }
    }
}

/* --- convolutions ------------------------------------------------------------------------------------------ */

static long patches_of(Images images)
{
    return (images.tiles + PATCH - 1) / PATCH;
}

static long shares_of(Images images)
{
    long shares = patches_of(images) / SHARE;
    return shares < 1 ? 1 : shares > SHARES ? SHARES : shares;
}

/* Numbers in the transformed filters of a share, whose last rows may be computed in excess. */
static long filters_size(long C_in, long C_out)
{
    return 16 * (C_out + ROWS) * C_in;
}

/* How many numbers of work space they need; 0 if they cannot be used for so many channels, or should not. */
long winograd_space(long terms, long B, long H, long W, long C_in, long C_out, long threads)
{
    if (C_in % (NARROW * LANES) || C_out % (NARROW * LANES) || B < 1 || too_slow(threads))
        return 0;
    long shares = shares_of(images_of(B, H, W, 0)), parts = threads > shares ? threads : shares;
    return (terms > shares ? terms : shares) * filters_size(C_in, C_out) + (C_in + C_out) * (1 + parts * 16 * PATCH * terms) + ROWS;
}

/* y = Σ conv(x, w), or if `back`, the cotangent of the input where x is that of the output. */
void winograd(long terms, in x, in x2, in w, in w2, long B, long H, long W, long T, long C_in, long C_out, long back,
              long threads, out y, out space)
{
    const real *images[2] = {x, x2}, *filters[2] = {w, w2};
    long K = back ? C_out : C_in, N = back ? C_in : C_out;
    Images from = images_of(B, H, W, T * K), into = images_of(B, H, W, T * N);
    long patches = patches_of(from);
    real *u = space, *zeros = u + 16 * terms * K * N, *parts = zeros + C_in + C_out;
    memset(zeros, 0, K * sizeof(real));
    for (long t = 0; t < T; t++) {
        for (long s = 0; s < terms; s++)
            SHARED(block, N / LANES)
                for (long k = 0; k < K; k++) {
                    long n = block * LANES;
                    const real *w_t = filters[s] + t * C_out * 9 * C_in;
                    real *to = u + (s * K + k) * N + n;
                    if (back)
                        transform_filters(w_t + (9 * k + 8) * C_in + n, 1, -C_in, to, terms * K * N);
                    else
                        transform_filters(w_t + 9 * n * C_in + k, 9 * C_in, C_in, to, terms * K * N);
                }
        SHARED(part, threads) {
            real *d = parts + part * 16 * PATCH * (terms * K + N), *m = d + 16 * PATCH * terms * K;
            for (long patch = part * patches / threads; patch < (part + 1) * patches / threads; patch++) {
                long first = patch * PATCH, left = from.tiles - first, tiles = left < PATCH ? left : PATCH;
                for (long s = 0; s < terms; s++)
                    for (long i = 0; i < (tiles + ROWS - 1) / ROWS * ROWS; i++)
                        transform_input(from, images[s] + t * K, first + i, K, zeros, d + (s * PATCH + i) * K,
                                        terms * PATCH * K);
                for (long e = 0; e < 16; e++)
                    for (long i = 0; i < tiles; i += ROWS) {
                        const real *a = d + (e * terms * PATCH + i) * K, *b = u + e * terms * K * N;
                        Factors of = {a, b, terms, K, PATCH * K, K, 1, K * N, N};
                        product(of, N, m + (e * PATCH + i) * N, N, 0);
                    }
                for (long i = 0; i < tiles; i++)
                    transform_output(into, m + i * N, PATCH * N, y + t * N, first + i, N);
            }
        }
    }
}

/* The cotangent of the filters, Σ over pairs of inputs x and cotangents v of the output. */
void winograd_filters(long terms, in x, in x2, in v, in v2, long B, long H, long W, long T, long C_in, long C_out,
                      long threads, out to_w, out space)
{
    const real *images[2] = {x, x2}, *cotangents[2] = {v, v2};
    Images inputs = images_of(B, H, W, T * C_in), outputs = images_of(B, H, W, T * C_out);
    long patches = patches_of(inputs), shares = shares_of(inputs), step = (C_out + ROWS) * C_in;
    long inputs_size = terms * PATCH * C_in, outputs_size = terms * PATCH * C_out;
    real *sums = space, *zeros = sums + shares * filters_size(C_in, C_out), *parts = zeros + C_in + C_out;
    memset(zeros, 0, (C_in + C_out) * sizeof(real));
    for (long t = 0; t < T; t++) {
        SHARED(share, shares) {
            real *u = sums + share * filters_size(C_in, C_out), *d = parts + share * 16 * (inputs_size + outputs_size);
            real *a = d + 16 * inputs_size;
            long begin = share * patches / shares;
            for (long patch = begin; patch < (share + 1) * patches / shares; patch++) {
                long first = patch * PATCH, left = inputs.tiles - first, tiles = left < PATCH ? left : PATCH;
                for (long s = 0; s < terms; s++)
                    SHARED(i, tiles) {
                        transform_input(inputs, images[s] + t * C_in, first + i, C_in, zeros,
                                        d + (s * PATCH + i) * C_in, inputs_size);
                        transform_cotangent(outputs, cotangents[s] + t * C_out, first + i, C_out, zeros,
                                            a + (s * PATCH + i) * C_out, outputs_size);
                    }
                SHARED(e, 16)
                    for (long r = 0; r < C_out; r += ROWS) {
                        const real *left_e = a + e * outputs_size + r, *right_e = d + e * inputs_size;
                        Factors of = {left_e, right_e, terms, tiles, PATCH * C_out, 1, C_out, PATCH * C_in, C_in};
                        product(of, C_in, u + e * step + r * C_in, C_in, patch > begin);
                    }
            }
        }
        SHARED(r, C_out) {
            for (long share = 1; share < shares; share++)
                for (long e = 0; e < 16; e++) {
                    real *u = sums + e * step + r * C_in, *more = u + share * filters_size(C_in, C_out);
                    for (long c = 0; c < C_in; c += LANES)
                        store(u + c, load(u + c) + load(more + c));
                }
            transform_back(sums + r * C_in, step, to_w + (t * C_out + r) * 9 * C_in, C_in);
        }
    }
}

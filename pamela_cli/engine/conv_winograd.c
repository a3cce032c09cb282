/* 3x3 convolutions of many channels on the CPU, by Winograd's algorithm F(4x4, 3x3).

   Each 4x4 tile of the output takes 36 products of a channel's numbers instead of 144. With the tile's 6x6 inputs d, the
   filter g, and *, the product of corresponding numbers, it is

       A' [(G g G') * (B' d B)] A

   by the matrices in conv_winograd.h, and summed over input channels, it is 36 products of matrices, (tiles x C_in)
   (C_in x C_out). The cotangent of the filter is that algorithm's adjoint, G' [Σ (A v A') * (B' d B)] G; that of the
   input is a convolution of v with the transposed filters.

   Images (B, H, W, T·C) have their channels last in memory, those of task t at t·C; so do filters, (T·C_out, 3, 3,
   C_in). All functions sum the convolutions of one or two pairs ("terms"). They work on PATCH tiles at a time, which
   stay in the cache, and to the same bits whatever the number of threads. */

#include "conv.h"
#include "conv_winograd.h"

#define POINTS (WINDOW * WINDOW)
#define PATCH (6 * ROWS)

/* The gradient of the filters sums at least SHARE patches, if there are so many, in each of at most SHARES sums. Threads
   take one each, or if there are fewer than threads, work on each sum together. */
#define SHARE 16
#define SHARES 8

/* Images whose pixels are `pixel` numbers apart, each cut into rows x columns tiles. */
typedef struct {
    long height, width, pixel, rows, columns, tiles;
} Images;

static Images images_of(long B, long H, long W, long pixel)
{
    long rows = (H + TILE - 1) / TILE, columns = (W + TILE - 1) / TILE;
    return (Images){H, W, pixel, rows, columns, B * rows * columns};
}

/* Where the pixels of a square of `side` lines are that begins `before` lines above and left of a tile; `none` for those
   beyond the image, and beyond the last tile. */
static inline void pixels_at(Images of, const real *images, long tile, long before, long side, const real *none,
                             const real **at)
{
    long image = tile / (of.rows * of.columns), place = tile % (of.rows * of.columns);
    long top = TILE * (place / of.columns) - before, left = TILE * (place % of.columns) - before;
    for (long e = 0; e < side * side; e++) {
        long i = top + e / side, j = left + e % side;
        int within = tile < of.tiles && i >= 0 && i < of.height && j >= 0 && j < of.width;
        at[e] = within ? images + ((image * of.height + i) * of.width + j) * of.pixel : none;
    }
}

/* --- the transforms ---------------------------------------------------------------------------------------- */

/* A square of M x M vectors becomes one of N x N, by its columns and then by its rows. */
#define TRANSFORM(line, M, N, from, to)                                                                         \
    vector half[(N) * (M)];                                                                                     \
    UNROLLED(j, M) line(from + j, M, half + j, M);                                                              \
    UNROLLED(i, N) line(half + i * (M), 1, to + i * (N), 1);

/* B' d B of a tile's C channels: its numbers are `step` apart. */
static void transform_input(Images of, const real *x, long tile, long C, const real *zeros, real *to, long step)
{
    const real *at[POINTS];
    pixels_at(of, x, tile, 1, WINDOW, zeros, at);
    for (long c = 0; c < C; c += LANES) {
        vector d[POINTS], t[POINTS];
        UNROLLED(e, POINTS) d[e] = load(at[e] + c);
        TRANSFORM(line_of_input, WINDOW, WINDOW, d, t)
        UNROLLED(e, POINTS) store(to + e * step + c, t[e]);
    }
}

/* A' m A of numbers that are `step` apart, into a tile of y. */
static void transform_output(Images of, const real *m, long step, real *y, long tile, long C)
{
    const real *at[TILE * TILE];
    pixels_at(of, y, tile, 0, TILE, 0, at);
    for (long c = 0; c < C; c += LANES) {
        vector from[POINTS], t[TILE * TILE];
        UNROLLED(e, POINTS) from[e] = load(m + e * step + c);
        TRANSFORM(line_of_output, WINDOW, TILE, from, t)
        UNROLLED(e, TILE * TILE)
        if (at[e])
            store((real *)at[e] + c, t[e]);
    }
}

/* A v A' of a tile. */
static void transform_cotangent(Images of, const real *v, long tile, long C, const real *zeros, real *to, long step)
{
    const real *at[TILE * TILE];
    pixels_at(of, v, tile, 0, TILE, zeros, at);
    for (long c = 0; c < C; c += LANES) {
        vector d[TILE * TILE], t[POINTS];
        UNROLLED(e, TILE * TILE) d[e] = load(at[e] + c);
        TRANSFORM(line_of_cotangent, TILE, WINDOW, d, t)
        UNROLLED(e, POINTS) store(to + e * step + c, t[e]);
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
    vector g[9], t[POINTS];
    UNROLLED(e, 9) g[e] = every(w + e * tap, across);
    TRANSFORM(line_of_filter, 3, WINDOW, g, t)
    UNROLLED(e, POINTS) store(to + e * step, t[e]);
}

/* G' u G of numbers that are `step` apart, into the taps of a row of filters. */
static void transform_back(const real *u, long step, real *w, long C)
{
    for (long c = 0; c < C; c += LANES) {
        vector from[POINTS], t[9];
        UNROLLED(e, POINTS) from[e] = load(u + e * step + c);
        TRANSFORM(line_back, WINDOW, 3, from, t)
        UNROLLED(e, 9) store(w + e * C + c, t[e]);
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

/* How far apart the matrices of two products are: a line of the cache farther than needed, since at powers of two a tile's
   numbers would get in each other's way there. */
static long apart(long numbers)
{
    return numbers + 64 / (long)sizeof(real);
}

/* Numbers from a transformed filter's product to the next, whose last rows may be computed in excess. */
static long sums_apart(long C_in, long C_out)
{
    return apart((C_out + ROWS) * C_in);
}

/* How many numbers of work space they need; 0 if they cannot be used for so many channels, or should not. */
long winograd_space(long terms, long B, long H, long W, long C_in, long C_out, long threads)
{
    if (C_in % (NARROW * LANES) || C_out % (NARROW * LANES) || B < 1 || too_slow(threads))
        return 0;
    long shares = shares_of(images_of(B, H, W, 0)), parts = threads > shares ? threads : shares;
    long filters = (terms > shares ? terms : shares) * sums_apart(C_in, C_out);
    long tiles = parts * (apart(terms * PATCH * C_in) + apart(terms * PATCH * C_out));
    return POINTS * (filters + tiles) + C_in + C_out + ROWS;
}

/* y = Σ conv(x, w), or if `back`, the cotangent of the input where x is that of the output. */
void winograd(long terms, in x, in x2, in w, in w2, long B, long H, long W, long T, long C_in, long C_out, long back,
              long threads, out y, out space)
{
    const real *images[2] = {x, x2}, *filters[2] = {w, w2};
    long K = back ? C_out : C_in, N = back ? C_in : C_out;
    Images from = images_of(B, H, W, T * K), into = images_of(B, H, W, T * N);
    long groups = (from.tiles + ROWS - 1) / ROWS;
    long u_step = apart(terms * K * N), d_step = apart(terms * PATCH * K), m_step = apart(PATCH * N);
    real *u = space, *zeros = u + POINTS * u_step, *parts = zeros + C_in + C_out;
    memset(zeros, 0, K * sizeof(real));
    for (long t = 0; t < T; t++) {
        for (long s = 0; s < terms; s++)
            SHARED(block, N / LANES)
                for (long k = 0; k < K; k++) {
                    long n = block * LANES;
                    const real *w_t = filters[s] + t * C_out * 9 * C_in;
                    real *to = u + (s * K + k) * N + n;
                    if (back)
                        transform_filters(w_t + (9 * k + 8) * C_in + n, 1, -C_in, to, u_step);
                    else
                        transform_filters(w_t + 9 * n * C_in + k, 9 * C_in, C_in, to, u_step);
                }
        SHARED(part, threads) {
            real *d = parts + part * POINTS * (d_step + m_step), *m = d + POINTS * d_step;
            long end = (part + 1) * groups / threads * ROWS;
            if (end > from.tiles)
                end = from.tiles;
            for (long first = part * groups / threads * ROWS; first < end; first += PATCH) {
                long tiles = end - first < PATCH ? end - first : PATCH;
                for (long s = 0; s < terms; s++)
                    for (long i = 0; i < (tiles + ROWS - 1) / ROWS * ROWS; i++)
                        transform_input(from, images[s] + t * K, first + i, K, zeros, d + (s * PATCH + i) * K, d_step);
                for (long e = 0; e < POINTS; e++)
                    for (long i = 0; i < tiles; i += ROWS) {
                        Factors of = {d + e * d_step + i * K, u + e * u_step, terms, K, PATCH * K, K, 1, K * N, N};
                        product(of, N, m + e * m_step + i * N, N, 0);
                    }
                for (long i = 0; i < tiles; i++)
                    transform_output(into, m + i * N, m_step, y + t * N, first + i, N);
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
    long patches = patches_of(inputs), shares = shares_of(inputs), u_step = sums_apart(C_in, C_out);
    long d_step = apart(terms * PATCH * C_in), a_step = apart(terms * PATCH * C_out);
    long sharing = shares < threads ? 1 : threads;
    real *sums = space, *zeros = sums + shares * POINTS * u_step, *parts = zeros + C_in + C_out;
    memset(zeros, 0, (C_in + C_out) * sizeof(real));
    for (long t = 0; t < T; t++) {
        SHARED_AMONG(sharing, share, shares) {
            real *u = sums + share * POINTS * u_step, *d = parts + share * POINTS * (d_step + a_step);
            real *a = d + POINTS * d_step;
            long begin = share * patches / shares;
            for (long patch = begin; patch < (share + 1) * patches / shares; patch++) {
                long first = patch * PATCH, left = inputs.tiles - first, tiles = left < PATCH ? left : PATCH;
                for (long s = 0; s < terms; s++)
                    SHARED(i, tiles) {
                        transform_input(inputs, images[s] + t * C_in, first + i, C_in, zeros,
                                        d + (s * PATCH + i) * C_in, d_step);
                        transform_cotangent(outputs, cotangents[s] + t * C_out, first + i, C_out, zeros,
                                            a + (s * PATCH + i) * C_out, a_step);
                    }
                SHARED(e, POINTS)
                    for (long r = 0; r < C_out; r += ROWS) {
                        Factors of = {a + e * a_step + r, d + e * d_step, terms,        tiles, PATCH * C_out, 1,
                                      C_out,              PATCH * C_in,   C_in};
                        product(of, C_in, u + e * u_step + r * C_in, C_in, patch > begin);
                    }
            }
        }
        SHARED(r, C_out) {
            for (long share = 1; share < shares; share++)
                for (long e = 0; e < POINTS; e++) {
                    real *u = sums + e * u_step + r * C_in, *more = u + share * POINTS * u_step;
                    for (long c = 0; c < C_in; c += LANES)
                        store(u + c, load(u + c) + load(more + c));
                }
            transform_back(sums + r * C_in, u_step, to_w + (t * C_out + r) * 9 * C_in, C_in);
        }
    }
}

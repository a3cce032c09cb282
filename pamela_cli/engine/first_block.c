/* A network's first block on the CPU, [3x3 convolution -> batch norm -> ReLU -> 2x2 max pool] of one task's images with
   one or three channels. The convolution's z, the largest tensor of the network, is made two rows at a time, and never
   stored: only what the pool takes of it is, and of a window's four pixels which one that was.

   z = W patch at every pixel. So what the derivatives ask of all pixels follows from A = sum patch patch^T, whatever
   the filters W are. A patch has `taps` numbers and a one, so the last column of A is s = sum patch:

       sum z patch^T = W A,   sum zt = Wt s,   sum zt z = (Wt A) W^T

   norm_pool.py has the formulas of the layer and the names. Images have a border of zeros, (B, H + 2, W + 2, C);
   filters are (taps, N), tap by tap. The work is shared by `threads` threads, image by image or line by line, and the
   bits do not depend on their number. */

#include "norm_pool.h"
#include "patches.h"
#include "pooled.h"

typedef const signed char *restrict choice;

/* Each thread has room of its own for two rows, and takes one share of the images, or of their lines. */
#define WORKERS SHARED(worker, threads)
#define FIRST_OF(worker, count) ((worker) * (count) / threads)

/* Numbers in a line of A where products make it, a multiple of what they take. */
static long padded(long C)
{
    long least = NARROW * LANES;
    return (9 * C + 1 + least - 1) / least * least;
}

/* How many numbers of work space the functions need; 0 if they cannot be used for images or channels like these. */
long first_space(long B, long H, long W, long C, long N, long threads)
{
    if ((C != 1 && C != 3) || N % (NARROW * LANES) || H < 2 || W < ROWS || too_slow(threads))
        return 0;
    return threads * (2 * W * N + (W + 9 * C) * padded(C)) + B * 9 * C * N;
}

/* --- A -------------------------------------------------------------------------------------------------------- */

static void add_row_of_patches(in above, long line, long W, long C, out patches, out products, sums A)
{
    long taps = 9 * C, wide = padded(C);
    for (long j = 0; j < W; j++)
        for (long k = 0; k < 3; k++)
            memcpy(patches + j * wide + 3 * k * C, above + k * line + j * C, 3 * C * sizeof(real));
    for (long k = 0; k < taps; k += TRIPLE) {
        Factors of = {patches + k, patches, 1, W, 0, 1, wide, 0, wide};
        product_triple(of, wide, products + k * wide, wide, 0);
    }
    for (long k = 0; k < taps; k++)
        for (long l = 0; l <= taps; l++)
            A[k * (taps + 1) + l] += products[k * wide + l];
}

/* A (taps, taps + 1), all but its last line; `parts` (B, taps, taps + 1) is where each image's is made. */
void patch_products(in images, long B, long H, long W, long C, long threads, sums A, sums parts, out space)
{
    long taps = 9 * C, line = (W + 2) * C, wide = padded(C), size = taps * (taps + 1);
    WORKERS {
        real *patches = space + worker * (W + taps) * wide;
        memset(patches, 0, W * wide * sizeof(real));
        for (long j = 0; j < W; j++)
            patches[j * wide + taps] = 1;
        for (long b = FIRST_OF(worker, B); b < FIRST_OF(worker + 1, B); b++) {
            memset(parts + b * size, 0, size * sizeof(double));
            for (long i = 0; i < H; i++)
                add_row_of_patches(images + (b * (H + 2) + i) * line, line, W, C, patches, patches + W * wide,
                                   parts + b * size);
        }
    }
    memset(A, 0, size * sizeof(double));
    for (long b = 0; b < B; b++)
        for (long k = 0; k < size; k++)
            A[k] += parts[b * size + k];
}

/* found (N, taps + 1) = W A. */
static void times_products(in filters, const double *restrict A, long C, long N, sums found)
{
    long taps = 9 * C;
    memset(found, 0, N * (taps + 1) * sizeof(double));
    for (long n = 0; n < N; n++)
        for (long k = 0; k < taps; k++)
            for (long l = 0; l <= taps; l++)
                found[n * (taps + 1) + l] += filters[k * N + n] * A[k * (taps + 1) + l];
}

/* --- the block ------------------------------------------------------------------------------------------------- */

static void take_windows(in z, in below, in from, out pooled, signed char *restrict taken, out sum, out square,
                         long windows, long C)
{
    for (long j = 0; j < windows; j++, z += 2 * C, below += 2 * C, pooled += C, taken += C)
        CHANNELS {
            real a = z[c], b = z[C + c], d = below[c], e = below[C + c];
            real p = pooled[c] = largest(largest(a, b), largest(d, e));
            taken[c] = a == p ? 0 : b == p ? 1 : d == p ? 2 : 3;
            a -= from[c], b -= from[c], d -= from[c], e -= from[c];
            sum[c] += (a + b) + (d + e);
            square[c] += (a * a + b * b) + (d * d + e * e);
        }
}

/* The first pixel's z, which sums of z are made from. */
static void first_pixel(in images, in filters, long W, long C, long N, out z)
{
    memset(z, 0, N * sizeof(real));
    for (long k = 0; k < 9 * C; k++)
        for (long n = 0; n < N; n++)
            z[n] += images[k / (3 * C) * (W + 2) * C + k % (3 * C)] * filters[k * N + n];
}

/* mean, r (N), pooled z and which pixels of the windows it is of, and the block's output y. */
void first(in images, in filters, in scale, in shift, double eps, long B, long H, long W, long C, long N, long threads,
           out mean, out r, out pooled, signed char *restrict taken, out y, out rows, sums total, out space)
{
    long lines = lines_of(B, H), line_size = (W + 2) * C;
    first_pixel(images, filters, W, C, N, mean);
    WORKERS {
        real *z = space + worker * 2 * W * N;
        for (long line = FIRST_OF(worker, lines); line < FIRST_OF(worker + 1, lines); line++) {
            Line at = line_at(line, H, W, N);
            long b = line / ((H + 1) / 2), i = 2 * (line % ((H + 1) / 2)), both = i + 1 < H;
            for (long k = 0; k <= both; k++)
                convolve_row(images + (b * (H + 2) + i + k) * line_size, filters, W, C, N, z + k * W * N, N);
            real *row = start(rows, line, N);
            take_windows(z, z + W * N, mean, pooled + at.pooled, taken + at.pooled, row, row + N, at.windows, N);
            for (long k = 0; k <= both; k++) /* what is in no window: all of the last row, or the last column */
                stats_pixels(z + (k * W + W - at.rests[k]) * N, mean, row, row + N, at.rests[k], N);
        }
    }
    gather(total, rows, lines, N);
    finish_stats(total, (double)B * H * W, eps, N, mean, r);
    normalise(pooled, mean, r, scale, shift, B, H, W, N, threads, y);
}

/* --- its gradient ---------------------------------------------------------------------------------------------- */

/* Two rows of what is zero but where the pool took a pixel and y > 0: steep v, plus steep_2 v_2 if there is one. */
static void spread_windows(choice taken, in y, in steep, in v, in steep_2, in v_2, out z, out below, long windows,
                           long C)
{
    for (long j = 0; j < windows; j++, z += 2 * C, below += 2 * C, y += C, v += C, v_2 += C, taken += C)
        CHANNELS {
            real t = y[c] > 0 ? steep[c] * v[c] + steep_2[c] * v_2[c] : 0;
            z[c] = taken[c] == 0 ? t : 0;
            z[C + c] = taken[c] == 1 ? t : 0;
            below[c] = taken[c] == 2 ? t : 0;
            below[C + c] = taken[c] == 3 ? t : 0;
        }
}

/* to (taps, N), from those pixels alone: image by image, then summed in their order. */
static void at_taken(in images, choice taken, in y, in steep, in v, in steep_2, in v_2, long B, long H, long W, long C,
                     long N, long threads, out to, out space)
{
    long taps = 9 * C, line = (W + 2) * C, windows = W / 2;
    real *images_sums = space + threads * 2 * W * N;
    WORKERS {
        real *d = space + worker * 2 * W * N;
        for (long b = FIRST_OF(worker, B); b < FIRST_OF(worker + 1, B); b++)
            for (long i = 0; i < H / 2; i++) {
                long at = (b * (H / 2) + i) * windows * N;
                spread_windows(taken + at, y + at, steep, v + at, steep_2, v_2 + at, d, d + W * N, windows, N);
                for (long k = 0; k < taps; k += TRIPLE) {
                    const real *a = images + (b * (H + 2) + 2 * i + k / (3 * C)) * line + k % (3 * C);
                    Factors of = {a, d, 2, 2 * windows, line, 1, C, W * N, N};
                    product_triple(of, N, images_sums + (b * taps + k) * N, N, i > 0);
                }
            }
    }
    sum_images(images_sums, B, taps * N, to);
}

/* What all pixels add to it: factor times sum z patch, and offset times sum patch. */
static void add_of_all(in factor, const double *restrict with_patches, long taps, long N, out to)
{
    for (long k = 0; k < taps; k++)
        for (long n = 0; n < N; n++)
            to[k * N + n] += factor[n] * with_patches[n * (taps + 1) + k];
}

static void add_offsets(in offset, const double *restrict A, long taps, long N, out to)
{
    for (long k = 0; k < taps; k++)
        for (long n = 0; n < N; n++)
            to[k * N + n] += offset[n] * A[k * (taps + 1) + taps];
}

/* to (taps, N), to_scale, to_shift (N), from the cotangent v of y; and with_patches (N, taps + 1) = W A. `terms` (3, N)
   and `none` (N), zeros. */
void first_gradient(in images, in v, in pooled, choice taken, in y, in mean, in r, in scale, in filters,
                    const double *restrict A, long B, long H, long W, long C, long N, long threads, out to,
                    out to_scale, out to_shift, sums with_patches, out terms, in none, out rows, sums total, out space)
{
    gradient_terms(v, pooled, y, mean, r, scale, B, H, W, N, threads, to_scale, to_shift, terms, rows, total);
    at_taken(images, taken, y, terms, v, none, v, B, H, W, C, N, threads, to, space);
    times_products(filters, A, C, N, with_patches);
    add_of_all(terms + N, with_patches, 9 * C, N, to);
    add_offsets(terms + 2 * N, A, 9 * C, N, to);
}

/* --- tangents of both ------------------------------------------------------------------------------------------ */

static void follow_windows(in zt, in below, choice taken, out xt, long windows, long C)
{
    for (long j = 0; j < windows; j++, zt += 2 * C, below += 2 * C, taken += C, xt += C)
        CHANNELS
            xt[c] = taken[c] == 0 ? zt[c] : taken[c] == 1 ? zt[C + c] : taken[c] == 2 ? below[c] : below[C + c];
}

/* Along filters_t, scale_t and shift_t: moments (2, N), xt and yt; and moved (N, taps + 1) = Wt A. */
void first_tangent(in images, in filters_t, in filters, const double *restrict A, in pooled, choice taken, in y, in mean,
                   in r, in scale, in scale_t, in shift_t, long B, long H, long W, long C, long N, long threads,
                   out moments, sums moved, out xt, out yt, out space)
{
    long taps = 9 * C, lines = B * (H / 2), line_size = (W + 2) * C;
    WORKERS {
        real *zt = space + worker * 2 * W * N;
        for (long line = FIRST_OF(worker, lines); line < FIRST_OF(worker + 1, lines); line++) {
            long b = line / (H / 2), i = 2 * (line % (H / 2)), at = line * (W / 2) * N;
            for (long k = 0; k < 2; k++)
                convolve_row(images + (b * (H + 2) + i + k) * line_size, filters_t, W, C, N, zt + k * W * N, N);
            follow_windows(zt, zt + W * N, taken + at, xt + at, W / 2, N);
        }
    }
    times_products(filters_t, A, C, N, moved);
    double count = (double)B * H * W;
    for (long n = 0; n < N; n++) {
        double sum = moved[n * (taps + 1) + taps], product = 0;
        for (long k = 0; k < taps; k++)
            product += moved[n * (taps + 1) + k] * filters[k * N + n];
        moments[n] = sum / count;
        moments[N + n] = (product - sum * mean[n]) * r[n] / count;
    }
    move(pooled, y, mean, r, moments, scale, scale_t, shift_t, B, H, W, N, threads, xt, yt);
}

/* Tangents of what first_gradient gives, vt being that of v. `terms` (5, N). */
void first_gradient_tangent(in images, in vt, in v, in pooled, choice taken, in y, in xt, in mean, in r, in scale,
                            in scale_t, in to_scale, in to_shift, in moments, const double *restrict A,
                            const double *restrict with_patches, const double *restrict moved, long B, long H, long W,
                            long C, long N, long threads, out to, out to_scale_t, out to_shift_t, out terms, out rows,
                            sums total, out space)
{
    gradient_tangent_terms(vt, v, pooled, y, xt, mean, r, scale, scale_t, to_scale, to_shift, moments, B, H, W, N,
                           threads, to_scale_t, to_shift_t, terms, rows, total);
    at_taken(images, taken, y, terms + N, v, terms, vt, B, H, W, C, N, threads, to, space);
    add_of_all(terms + 2 * N, with_patches, 9 * C, N, to);
    add_of_all(terms + 3 * N, moved, 9 * C, N, to);
    add_offsets(terms + 4 * N, A, 9 * C, N, to);
}

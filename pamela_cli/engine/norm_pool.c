/* Batch norm -> ReLU -> 2x2 max pool on the CPU, each derivative in one pass over the large tensors.

   norm_pool.py has the formulas and the names. Tensors have their channels last in memory, z (B, H, W, C) and
   what is pooled (B, H/2, W/2, C), so every inner loop runs over the channels of a pixel and vectorises.
   What the pool took is not stored: it is the first pixel of a window that equals the window's largest.

   The work is done line by line, a line being two rows of an image, by `threads` threads. Sums are made in REAL
   (float or double) along a line, and in double over the lines, in their order, so the number of threads leaves the
   bits alone; `rows` (B*((H+1)/2), 2, C) and `total` (2, C) are where. */

#include "norm_pool.h"
#include "pooled.h"

/* --- the layer --------------------------------------------------------------------------------------------- */

static void stats_windows(in z, in below, in from, out pooled, out sum, out square, long windows, long C)
{
    for (long j = 0; j < windows; j++, z += 2 * C, below += 2 * C, pooled += C)
        CHANNELS {
            real a = z[c], b = z[C + c], d = below[c], e = below[C + c];
            pooled[c] = largest(largest(a, b), largest(d, e));
            a -= from[c], b -= from[c], d -= from[c], e -= from[c];
            sum[c] += (a + b) + (d + e);
            square[c] += (a * a + b * b) + (d * d + e * e);
        }
}

/* mean, r (C), pooled z, and the layer's output y. */
void norm_pool(in z, in scale, in shift, double eps, long B, long H, long W, long C, long threads, out mean, out r,
               out pooled, out y, out rows, sums total)
{
    in from = z; /* Sums of differences from some pixel keep more digits. */
    LINES(lines_of(B, H)) {
        Line at = line_at(line, H, W, C);
        real *row = start(rows, line, C);
        stats_windows(z + at.above, z + at.below, from, pooled + at.pooled, row, row + C, at.windows, C);
        for (int k = 0; k < 2; k++)
            stats_pixels(z + at.rest[k], from, row, row + C, at.rests[k], C);
    }
    gather(total, rows, lines_of(B, H), C);
    memcpy(mean, from, C * sizeof(real));
    finish_stats(total, (double)B * H * W, eps, C, mean, r);
    normalise(pooled, mean, r, scale, shift, B, H, W, C, threads, y);
}

/* --- its gradient ------------------------------------------------------------------------------------------ */

static void affine_pixels(in z, in factor, in offset, out to_z, long pixels, long C)
{
    for (long j = 0; j < pixels; j++, z += C, to_z += C)
        CHANNELS to_z[c] = z[c] * factor[c] + offset[c];
}

static void affine_windows(in z, in below, in pooled, in y, in v, in steep, in factor, in offset, out to_z,
                           out to_below, long windows, long C)
{
    for (long j = 0; j < windows; j++) {
        CHANNELS {
            real a = z[c], b = z[C + c], d = below[c], e = below[C + c], p = pooled[c];
            real t = y[c] > 0 ? steep[c] * v[c] : 0, f = factor[c], o = offset[c];
            to_z[c] = a * f + (a == p ? o + t : o);
            t = a == p ? 0 : t;
            to_z[C + c] = b * f + (b == p ? o + t : o);
            t = b == p ? 0 : t;
            to_below[c] = d * f + (d == p ? o + t : o);
            t = d == p ? 0 : t;
            to_below[C + c] = e * f + (e == p ? o + t : o);
        }
        z += 2 * C, below += 2 * C, to_z += 2 * C, to_below += 2 * C, pooled += C, y += C, v += C;
    }
}

/* to_z, and to_scale, to_shift (C), from the cotangent v of y. `work` (3, C). */
void norm_pool_gradient(in v, in z, in pooled, in y, in mean, in r, in scale, long B, long H, long W, long C,
                        long threads, out to_z, out to_scale, out to_shift, out work, out rows, sums total)
{
    gradient_terms(v, pooled, y, mean, r, scale, B, H, W, C, threads, to_scale, to_shift, work, rows, total);
    out steep = work, factor = work + C, offset = work + 2 * C;
    LINES(lines_of(B, H)) {
        Line at = line_at(line, H, W, C);
        affine_windows(z + at.above, z + at.below, pooled + at.pooled, y + at.pooled, v + at.pooled, steep, factor,
                       offset, to_z + at.above, to_z + at.below, at.windows, C);
        for (int k = 0; k < 2; k++)
            affine_pixels(z + at.rest[k], factor, offset, to_z + at.rest[k], at.rests[k], C);
    }
}

/* --- the tangent of the layer ------------------------------------------------------------------------------ */

static void moments_pixels(in zt, in z, in mean, out sum, out product, long pixels, long C)
{
    for (long j = 0; j < pixels; j++, z += C, zt += C)
        CHANNELS {
            sum[c] += zt[c];
            product[c] += zt[c] * (z[c] - mean[c]);
        }
}

static void moments_windows(in zt, in zt_below, in z, in below, in pooled, in mean, out taken, out sum, out product,
                            long windows, long C)
{
    for (long j = 0; j < windows; j++) {
        CHANNELS {
            real a = z[c], b = z[C + c], d = below[c], e = below[C + c], p = pooled[c], m = mean[c];
            real at = zt[c], bt = zt[C + c], dt = zt_below[c], et = zt_below[C + c];
            taken[c] = a == p ? at : b == p ? bt : d == p ? dt : et;
            sum[c] += (at + bt) + (dt + et);
            product[c] += (at * (a - m) + bt * (b - m)) + (dt * (d - m) + et * (e - m));
        }
        z += 2 * C, below += 2 * C, zt += 2 * C, zt_below += 2 * C, pooled += C, taken += C;
    }
}

/* m0, m1 (2, C): means of zt and zt x; xt and yt, the tangents of x where the pool took it, and of y. */
void norm_pool_tangent(in zt, in z, in pooled, in y, in mean, in r, in scale, in scale_t, in shift_t, long B, long H,
                       long W, long C, long threads, out moments, out xt, out yt, out rows, sums total)
{
    LINES(lines_of(B, H)) {
        Line at = line_at(line, H, W, C);
        real *row = start(rows, line, C);
        moments_windows(zt + at.above, zt + at.below, z + at.above, z + at.below, pooled + at.pooled, mean,
                        xt + at.pooled, row, row + C, at.windows, C);
        for (int k = 0; k < 2; k++)
            moments_pixels(zt + at.rest[k], z + at.rest[k], mean, row, row + C, at.rests[k], C);
    }
    gather(total, rows, lines_of(B, H), C);
    double n = (double)B * H * W;
    out m0 = moments, m1 = moments + C;
    CHANNELS {
        m0[c] = total[c] / n;
        m1[c] = total[C + c] * r[c] / n;
    }
    move(pooled, y, mean, r, moments, scale, scale_t, shift_t, B, H, W, C, threads, xt, yt);
}

/* --- the tangent of the gradient --------------------------------------------------------------------------- */

static void tangent_pixels(in z, in zt, in factor, in factor_t, in offset, out to_z, long pixels, long C)
{
    for (long j = 0; j < pixels; j++, z += C, zt += C, to_z += C)
        CHANNELS to_z[c] = z[c] * factor[c] + zt[c] * factor_t[c] + offset[c];
}

static void tangent_windows(in z, in below, in zt, in zt_below, in pooled, in y, in v, in vt, in steep, in steep_t,
                            in factor, in factor_t, in offset, out to_z, out to_below, long windows, long C)
{
    for (long j = 0; j < windows; j++) {
        CHANNELS {
            real a = z[c], b = z[C + c], d = below[c], e = below[C + c], p = pooled[c];
            real t = y[c] > 0 ? steep_t[c] * v[c] + steep[c] * vt[c] : 0;
            real f = factor[c], ft = factor_t[c], o = offset[c];
            to_z[c] = a * f + zt[c] * ft + (a == p ? o + t : o);
            t = a == p ? 0 : t;
            to_z[C + c] = b * f + zt[C + c] * ft + (b == p ? o + t : o);
            t = b == p ? 0 : t;
            to_below[c] = d * f + zt_below[c] * ft + (d == p ? o + t : o);
            t = d == p ? 0 : t;
            to_below[C + c] = e * f + zt_below[C + c] * ft + (e == p ? o + t : o);
        }
        z += 2 * C, below += 2 * C, zt += 2 * C, zt_below += 2 * C, to_z += 2 * C, to_below += 2 * C;
        pooled += C, y += C, v += C, vt += C;
    }
}

/* Tangents of what norm_pool_gradient gives, vt being that of v. `work` (5, C). */
void norm_pool_gradient_tangent(in vt, in v, in zt, in z, in pooled, in y, in xt, in mean, in r, in scale, in scale_t,
                                in to_scale, in to_shift, in moments, long B, long H, long W, long C, long threads,
                                out to_zt, out to_scale_t, out to_shift_t, out work, out rows, sums total)
{
    gradient_tangent_terms(vt, v, pooled, y, xt, mean, r, scale, scale_t, to_scale, to_shift, moments, B, H, W, C,
                           threads, to_scale_t, to_shift_t, work, rows, total);
    out steep = work, steep_t = work + C, factor = work + 2 * C, factor_t = work + 3 * C, offset = work + 4 * C;
    LINES(lines_of(B, H)) {
        Line at = line_at(line, H, W, C);
        tangent_windows(z + at.above, z + at.below, zt + at.above, zt + at.below, pooled + at.pooled, y + at.pooled,
                        v + at.pooled, vt + at.pooled, steep, steep_t, factor, factor_t, offset, to_zt + at.above,
                        to_zt + at.below, at.windows, C);
        for (int k = 0; k < 2; k++)
            tangent_pixels(z + at.rest[k], zt + at.rest[k], factor, factor_t, offset, to_zt + at.rest[k],
                           at.rests[k], C);
    }
}

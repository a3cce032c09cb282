/* What batch norm -> ReLU -> pool and its derivatives are at the pixels that the pool took: all but what the
   pixels that it left ask for. norm_pool.py has the formulas and the names; what is pooled is (B, H/2, W/2, C). */

static void normalise_windows(in pooled, in mean, in r, in scale, in shift, out y, long windows, long C)
{
    for (long j = 0; j < windows; j++, pooled += C, y += C)
        CHANNELS {
            real x = (pooled[c] - mean[c]) * r[c];
            y[c] = largest(x * scale[c] + shift[c], 0);
        }
}

/* y, from pooled z. */
static void normalise(in pooled, in mean, in r, in scale, in shift, long B, long H, long W, long C, long threads, out y)
{
    LINES(B * (H / 2)) {
        long at = line * (W / 2) * C;
        normalise_windows(pooled + at, mean, r, scale, shift, y + at, W / 2, C);
    }
}

static void sum_windows(in v, in pooled, in y, in mean, in r, out sum, out product, long windows, long C)
{
    for (long j = 0; j < windows; j++, v += C, pooled += C, y += C)
        CHANNELS {
            real d = y[c] > 0 ? v[c] : 0;
            sum[c] += d;
            product[c] += d * (pooled[c] - mean[c]) * r[c];
        }
}

/* to_scale, to_shift (C) from the cotangent v of y; and dL/dz = factor z + offset, plus steep v where the pool took
   z and y > 0: `terms` (3, C) has steep, factor and offset. */
static void gradient_terms(in v, in pooled, in y, in mean, in r, in scale, long B, long H, long W, long C,
                           long threads, out to_scale, out to_shift, out terms, out rows, sums total)
{
    LINES(B * (H / 2)) {
        long at = line * (W / 2) * C;
        real *row = start(rows, line, C);
        sum_windows(v + at, pooled + at, y + at, mean, r, row, row + C, W / 2, C);
    }
    gather(total, rows, B * (H / 2), C);
    double n = (double)B * H * W;
    out steep = terms, factor = terms + C, offset = terms + 2 * C;
    CHANNELS {
        to_shift[c] = total[c];
        to_scale[c] = total[C + c];
        steep[c] = scale[c] * r[c];
        factor[c] = -steep[c] * r[c] * total[C + c] / n;
        offset[c] = -steep[c] * total[c] / n - factor[c] * mean[c];
    }
}

static void move_windows(in pooled, in y, in mean, in r, in m0, in m1, in scale, in scale_t, in shift_t, out xt,
                         out yt, long windows, long C)
{
    for (long j = 0; j < windows; j++, pooled += C, y += C, xt += C, yt += C)
        CHANNELS {
            real x = (pooled[c] - mean[c]) * r[c];
            xt[c] = r[c] * (xt[c] - m0[c] - x * m1[c]);
            yt[c] = y[c] > 0 ? scale_t[c] * x + scale[c] * xt[c] + shift_t[c] : 0;
        }
}

/* xt and yt, the tangents of x and of y, where xt has been zt; moments (2, C) are the means of zt and zt x. */
static void move(in pooled, in y, in mean, in r, in moments, in scale, in scale_t, in shift_t, long B, long H, long W,
                 long C, long threads, out xt, out yt)
{
    LINES(B * (H / 2)) {
        long at = line * (W / 2) * C;
        move_windows(pooled + at, y + at, mean, r, moments, moments + C, scale, scale_t, shift_t, xt + at, yt + at,
                     W / 2, C);
    }
}

static void sum_tangent_windows(in vt, in v, in pooled, in y, in xt, in mean, in r, out sum, out product,
                                long windows, long C)
{
    for (long j = 0; j < windows; j++, vt += C, v += C, pooled += C, y += C, xt += C)
        CHANNELS {
            real open = y[c] > 0 ? 1 : 0;
            sum[c] += open * vt[c];
            product[c] += open * (vt[c] * (pooled[c] - mean[c]) * r[c] + v[c] * xt[c]);
        }
}

/* The tangents of what gradient_terms gives, vt being that of v; the tangent of dL/dz is factor z + factor_t zt +
   offset, plus steep_t v + steep vt where the pool took z and y > 0. `terms` (5, C) has steep, steep_t, factor,
   factor_t, offset. */
static void gradient_tangent_terms(in vt, in v, in pooled, in y, in xt, in mean, in r, in scale, in scale_t, in to_scale,
                                   in to_shift, in moments, long B, long H, long W, long C, long threads,
                                   out to_scale_t, out to_shift_t, out terms, out rows, sums total)
{
    LINES(B * (H / 2)) {
        long at = line * (W / 2) * C;
        real *row = start(rows, line, C);
        sum_tangent_windows(vt + at, v + at, pooled + at, y + at, xt + at, mean, r, row, row + C, W / 2, C);
    }
    gather(total, rows, B * (H / 2), C);
    double n = (double)B * H * W;
    out steep = terms, steep_t = terms + C, factor = terms + 2 * C, factor_t = terms + 3 * C, offset = terms + 4 * C;
    CHANNELS {
        double m0 = moments[c], m1 = moments[C + c], d0 = to_shift[c], d1 = to_scale[c];
        double s = (double)scale[c] * r[c], st = (double)scale_t[c] * r[c] - s * r[c] * m1;
        to_shift_t[c] = total[c];
        to_scale_t[c] = total[C + c];
        steep[c] = s;
        steep_t[c] = st;
        factor[c] = (s * r[c] * m1 * d1 - st * d1 - s * total[C + c]) * r[c] / n;
        factor_t[c] = -s * r[c] * d1 / n;
        offset[c] = (s * r[c] * m0 * d1 - st * d0 - s * total[c]) / n - factor[c] * mean[c];
    }
}

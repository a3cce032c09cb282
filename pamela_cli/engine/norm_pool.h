/* What all loops of norm_pool.c are written in: lines of an image, and sums over them. */

#include <math.h>
#include <string.h>

#include "real.h"

typedef double *restrict sums;

#ifdef __clang__
#define CHANNELS _Pragma("clang loop vectorize(assume_safety)") for (long c = 0; c < C; c++)
#else
#define CHANNELS _Pragma("GCC ivdep") for (long c = 0; c < C; c++)
#endif

#define LINES(count) SHARED(line, count)

/* Of a line: where its two rows start in z and its windows in what is pooled, how many windows they hold, and the
   pixels that are in none: the last column of odd widths, the last row of odd heights. */
typedef struct {
    long above, below, pooled, windows;
    long rest[2], rests[2];
} Line;

static long lines_of(long B, long H)
{
    return B * ((H + 1) / 2);
}

static Line line_at(long line, long H, long W, long C)
{
    long b = line / ((H + 1) / 2), i = 2 * (line % ((H + 1) / 2));
    long above = (b * H + i) * W * C, below = above + W * C, whole = W / 2;
    if (i + 1 == H)
        return (Line){above, above, 0, 0, {above, above}, {W, 0}};
    long last = 2 * whole * C;
    return (Line){above, below, (b * (H / 2) + i / 2) * whole * C, whole, {above + last, below + last}, {W % 2, W % 2}};
}

/* Where a line is summed up, from zero. */
static real *start(real *rows, long line, long C)
{
    return memset(rows + line * 2 * C, 0, 2 * C * sizeof(real));
}

static void gather(sums total, in rows, long lines, long C)
{
    for (long c = 0; c < 2 * C; c++)
        total[c] = 0;
    for (long line = 0; line < lines; line++)
        for (long c = 0; c < 2 * C; c++)
            total[c] += rows[line * 2 * C + c];
}

/* The first if it is NaN, so that what is not finite cannot pass for zero. */
static inline real largest(real a, real b)
{
    return b > a ? b : a;
}

/* Sums of differences from some pixel, which keep more digits, and of their squares. */
static void stats_pixels(in z, in from, out sum, out square, long pixels, long C)
{
    for (long j = 0; j < pixels; j++, z += C)
        CHANNELS {
            real a = z[c] - from[c];
            sum[c] += a;
            square[c] += a * a;
        }
}

/* mean and r of n numbers, from such sums; where they begin, `mean` holds that pixel. */
static void finish_stats(sums total, double n, double eps, long C, out mean, out r)
{
    for (long c = 0; c < C; c++) {
        double shifted = total[c] / n, variance = total[C + c] / n - shifted * shifted;
        mean[c] += shifted;
        r[c] = 1 / sqrt((variance < 0 ? 0 : variance) + eps);
    }
}

/* 3x3 convolutions of one or three channels on the CPU, those of a network's first layer: products of matrices,
   (pixels x taps) (taps x C_out), whose left factors are read from images with a border of zeros.

   Images (B, H, W, T·C) have their channels last in memory, those of task t at t·C; so do filters, (T·C_out, 3, 3,
   C). Threads share images, and the bits are the same whatever their number. */

#include "patches.h"

/* How many numbers of work space they need; 0 if they cannot be used for images or channels like these. */
long few_space(long B, long H, long W, long C, long C_out, long threads)
{
    if ((C != 1 && C != 3) || C_out % (NARROW * LANES) || W < ROWS || too_slow(threads))
        return 0;
    return B * (H + 2) * (W + 2) * C + (B + 1) * 9 * C * C_out;
}

/* One task's images with a border of zeros, (B, H + 2, W + 2, C). */
static void with_border(in x, long B, long H, long W, long C, long pixel, long threads, out to)
{
    SHARED(b, B) {
        real *image = to + b * (H + 2) * (W + 2) * C;
        memset(image, 0, (H + 2) * (W + 2) * C * sizeof(real));
        for (long i = 0; i < H; i++)
            for (long j = 0; j < W; j++)
                for (long c = 0; c < C; c++)
                    image[((i + 1) * (W + 2) + j + 1) * C + c] = x[((b * H + i) * W + j) * pixel + c];
    }
}

/* y = conv(x, w). */
void few(in x, in w, long B, long H, long W, long T, long C, long C_out, long threads, out y, out space)
{
    long taps = 9 * C, line = (W + 2) * C;
    real *images = space, *filters = images + B * (H + 2) * line;
    for (long t = 0; t < T; t++) {
        with_border(x + t * C, B, H, W, C, T * C, threads, images);
        for (long k = 0; k < taps; k++)
            for (long n = 0; n < C_out; n++)
                filters[k * C_out + n] = w[(t * C_out + n) * taps + k];
        SHARED(row, B * H) {
            const real *from = images + (row + 2 * (row / H)) * line;
            convolve_row(from, filters, W, C, C_out, y + row * W * T * C_out + t * C_out, T * C_out);
        }
    }
}

/* The cotangent of the filters from that of y: image by image, then summed in their order. */
void few_filters(in x, in v, long B, long H, long W, long T, long C, long C_out, long threads, out to_w, out space)
{
    long taps = 9 * C, line = (W + 2) * C, pixel = T * C_out;
    real *images = space, *sums = images + B * (H + 2) * line, *total = sums + B * taps * C_out;
    for (long t = 0; t < T; t++) {
        with_border(x + t * C, B, H, W, C, T * C, threads, images);
        SHARED(b, B) {
            for (long i = 0; i < H; i++)
                for (long k = 0; k < taps; k += TRIPLE) {
                    const real *a = images + (b * (H + 2) + i + k / (3 * C)) * line + k % (3 * C);
                    Factors of = {a, v + (b * H + i) * W * pixel + t * C_out, 1, W, 0, 1, C, 0, pixel};
                    product_triple(of, C_out, sums + (b * taps + k) * C_out, C_out, i > 0);
                }
        }
        sum_images(sums, B, taps * C_out, total);
        for (long n = 0; n < C_out; n++)
            for (long k = 0; k < taps; k++)
                to_w[(t * C_out + n) * taps + k] = total[k * C_out + n];
    }
}

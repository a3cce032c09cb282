/* Convolutions of few channels as products of matrices, (pixels x taps) (taps x N), whose left factors are read from
   images with a border of zeros, (H + 2, W + 2, C). */

#include "conv.h"

#define TRIPLE 3
PRODUCTS(product_triple, TRIPLE)

/* Of a row of pixels, whose patches begin at `from`: W pixels of N numbers, `pixel` numbers apart. */
static inline void convolve_row(in from, in filters, long W, long C, long N, out to, long pixel)
{
    for (long j = 0; j < W; j += ROWS) {
        long first = j + ROWS > W ? W - ROWS : j; /* The last few pixels may be computed twice. */
        Factors of = {from + first * C, filters, 3, 3 * C, (W + 2) * C, C, 1, 3 * C * N, N};
        product(of, N, to + first * pixel, pixel, 0);
    }
}

/* The sums (B, count) of the images, added up in their order. */
static inline void sum_images(in sums_of_images, long B, long count, out total)
{
    memset(total, 0, count * sizeof(real));
    for (long b = 0; b < B; b++)
        for (long k = 0; k < count; k++)
            total[k] += sums_of_images[b * count + k];
}

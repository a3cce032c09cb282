/* What convolutions are made of: vectors of channels, and products of small matrices in registers. */

#include <string.h>

#include "real.h"

/* The widest vectors of the processor. A product holds ROWS rows of WIDE vectors in registers, or of NARROW ones. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define WIDE 4
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define WIDE 2
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define WIDE 4
#else
#define VECTOR_BYTES 16
#define WIDE 2
#endif
#define ROWS 6
#define NARROW 2
#define LANES ((long)(VECTOR_BYTES / sizeof(real)))

typedef real vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

#ifdef __clang__
#define UNROLLED(i, count) _Pragma("clang loop unroll(full)") for (long i = 0; i < (count); i++)
#else
/* As many as the longest loop has turns, over a window of conv_winograd.h. */
#define UNROLLED(i, count) _Pragma("GCC unroll 36") for (long i = 0; i < (count); i++)
#endif

static inline vector load(const real *from)
{
    return *(const vector *)from;
}

static inline void store(real *to, vector v)
{
    *(vector *)to = v;
}

/* The factors of a sum of products: a[s, r, k] is a[s * a_term + r * a_row + k * a_step], and b[s, k, c] is
   b[s * b_term + k * b_row + c]. */
typedef struct {
    const real *a, *b;
    long terms, depth, a_term, a_row, a_step, b_term, b_row;
} Factors;

/* c (R, V * LANES), its rows c_row apart, becomes the sum of a[s] b[s] over the terms s, or grows by it if `more`:
   what is added is summed up by itself, so that long sums keep their digits. */
#define PRODUCT(name, R, V)                                                                                     \
    static __attribute__((noinline)) void name(const Factors *of, real *c, long c_row, int more)                \
    {                                                                                                           \
        vector sum[R][V];                                                                                       \
        UNROLLED(r, R) UNROLLED(h, V) sum[r][h] = (vector){0};                                                  \
        long a_row = of->a_row, a_step = of->a_step, b_row = of->b_row;                                         \
        for (long s = 0; s < of->terms; s++) {                                                                  \
            const real *a = of->a + s * of->a_term, *b = of->b + s * of->b_term;                                \
            for (long k = 0; k < of->depth; k++, a += a_step, b += b_row) {                                     \
                vector row[V];                                                                                  \
                UNROLLED(h, V) row[h] = load(b + h * LANES);                                                    \
                UNROLLED(r, R) UNROLLED(h, V) sum[r][h] += a[r * a_row] * row[h];                               \
            }                                                                                                   \
        }                                                                                                       \
        UNROLLED(r, R)                                                                                          \
        UNROLLED(h, V)                                                                                          \
        {                                                                                                       \
            real *to = c + r * c_row + h * LANES;                                                               \
            if (more)                                                                                           \
                sum[r][h] += load(to);                                                                          \
            store(to, sum[r][h]);                                                                               \
        }                                                                                                       \
    }

/* The same for `columns` of b and c, a multiple of NARROW * LANES. */
#define PRODUCTS(name, R)                                                                                       \
    PRODUCT(name##_wide, R, WIDE)                                                                               \
    PRODUCT(name##_narrow, R, NARROW)                                                                           \
    static inline void name(Factors of, long columns, real *c, long c_row, int more)                            \
    {                                                                                                           \
        for (; columns >= WIDE * LANES; columns -= WIDE * LANES, of.b += WIDE * LANES, c += WIDE * LANES)       \
            name##_wide(&of, c, c_row, more);                                                                   \
        for (; columns > 0; columns -= NARROW * LANES, of.b += NARROW * LANES, c += NARROW * LANES)             \
            name##_narrow(&of, c, c_row, more);                                                                 \
    }

PRODUCTS(product, ROWS)

/* Whether PyTorch's convolutions are faster: without instructions that multiply and add at once, and on several threads
   without OpenMP. */
static inline int too_slow(long threads)
{
#if defined(__x86_64__) && !defined(__FMA__)
    return 1;
#elif !defined(_OPENMP)
    return threads > 1;
#else
    return threads < 1;
#endif
}

/* What all compiled functions are written in: numbers, and loops that threads share. */

#pragma once

typedef REAL real;
typedef const real *restrict in;
typedef real *restrict out;

#define TEXT(words) _Pragma(#words)

/* `workers` threads share the numbers from 0 to `count`; without OpenMP they come one after the other. */
#define SHARED_AMONG(workers, i, count)                                                                         \
    TEXT(omp parallel for schedule(static) num_threads(workers) if (workers > 1 && (count) > 1))                \
    for (long i = 0; i < (count); i++)

#define SHARED(i, count) SHARED_AMONG(threads, i, count)

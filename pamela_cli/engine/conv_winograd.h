/* Winograd's algorithm F(4, 3) for a line: four numbers of the output, from six of the input and three of a filter.
   To be included after conv.h.

   It is the transpose of a product of polynomials, of four coefficients v and three g, found from its values at the
   points 0, a, -a, b, -b and infinity: A v and, but for a factor, G g are theirs, and B finds the product. So with *,
   the product of corresponding numbers, the output is A' [(G g) * (B' d)], where

             1   1    1    1    1   0           1   0   0     / aabb
       A' =  0   a   -a    b   -b   0     G =   1   a  aa     / 2aa (aa - bb)
             0  aa   aa   bb   bb   0           1  -a  aa     / 2aa (aa - bb)
             0 aaa -aaa  bbb -bbb   1           1   b  bb     / 2bb (bb - aa)
                                                1  -b  bb     / 2bb (bb - aa)
                                                0   0   1

          aabb     0  -aa-bb       0   1   0
             0  -abb     -bb       a   1   0
       B' =  0   abb     -bb      -a   1   0
             0  -aab     -aa       b   1   0
             0   aab     -aa      -b   1   0
             0  aabb       0  -aa-bb   0   1

   With a = 3/4 and b = 3/2, rounding changes the result half as much as with the usual 1 and 2. */

#define TILE 4
#define WINDOW 6

#define A ((real)0.75)
#define B ((real)1.5)
#define AA (A * A)
#define BB (B * B)
#define AT_ZERO (1 / (AA * BB))
#define AT_A (1 / (2 * AA * (AA - BB)))
#define AT_B (1 / (2 * BB * (BB - AA)))

/* Vectors of numbers of a line are `from` apart before, and `to` apart after it. */
#define LINE static inline __attribute__((always_inline)) void

/* B' d. */
LINE line_of_input(const vector *d, long from, vector *t, long to)
{
    vector d0 = d[0], d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from], d5 = d[5 * from];
    vector a_even = d4 - BB * d2, a_odd = A * (d3 - BB * d1);
    vector b_even = d4 - AA * d2, b_odd = B * (d3 - AA * d1);
    t[0] = AA * BB * d0 - (AA + BB) * d2 + d4;
    t[to] = a_even + a_odd, t[2 * to] = a_even - a_odd;
    t[3 * to] = b_even + b_odd, t[4 * to] = b_even - b_odd;
    t[5 * to] = AA * BB * d1 - (AA + BB) * d3 + d5;
}

/* A' m. */
LINE line_of_output(const vector *m, long from, vector *t, long to)
{
    vector a_sum = m[from] + m[2 * from], a_difference = A * (m[from] - m[2 * from]);
    vector b_sum = m[3 * from] + m[4 * from], b_difference = B * (m[3 * from] - m[4 * from]);
    t[0] = m[0] + a_sum + b_sum;
    t[to] = a_difference + b_difference;
    t[2 * to] = AA * a_sum + BB * b_sum;
    t[3 * to] = AA * a_difference + BB * b_difference + m[5 * from];
}

/* A v. */
LINE line_of_cotangent(const vector *v, long from, vector *t, long to)
{
    vector v0 = v[0], v1 = v[from], v2 = v[2 * from], v3 = v[3 * from];
    vector a_even = v0 + AA * v2, a_odd = A * (v1 + AA * v3);
    vector b_even = v0 + BB * v2, b_odd = B * (v1 + BB * v3);
    t[0] = v0;
    t[to] = a_even + a_odd, t[2 * to] = a_even - a_odd;
    t[3 * to] = b_even + b_odd, t[4 * to] = b_even - b_odd;
    t[5 * to] = v3;
}

/* G g. */
LINE line_of_filter(const vector *g, long from, vector *t, long to)
{
    vector g0 = g[0], g1 = g[from], g2 = g[2 * from];
    vector a_even = AT_A * (g0 + AA * g2), a_odd = AT_A * A * g1;
    vector b_even = AT_B * (g0 + BB * g2), b_odd = AT_B * B * g1;
    t[0] = AT_ZERO * g0;
    t[to] = a_even + a_odd, t[2 * to] = a_even - a_odd;
    t[3 * to] = b_even + b_odd, t[4 * to] = b_even - b_odd;
    t[5 * to] = g2;
}

/* G' u. */
LINE line_back(const vector *u, long from, vector *t, long to)
{
    vector a_sum = AT_A * (u[from] + u[2 * from]), a_difference = AT_A * A * (u[from] - u[2 * from]);
    vector b_sum = AT_B * (u[3 * from] + u[4 * from]), b_difference = AT_B * B * (u[3 * from] - u[4 * from]);
    t[0] = AT_ZERO * u[0] + a_sum + b_sum;
    t[to] = a_difference + b_difference;
    t[2 * to] = AA * a_sum + BB * b_sum + u[5 * from];
}

#undef A
#undef B
#undef AA
#undef BB
#undef AT_ZERO
#undef AT_A
#undef AT_B
#undef LINE

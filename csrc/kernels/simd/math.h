// exp and the normal distribution in f32. fit_polynomials.py finds the coefficients and measures the errors.
#pragma once

namespace palo::PALO_SIMD_ISA {
namespace {

// c[0] + c[1] x + ... + c[N - 1] x^(N - 1)
template <int64_t N>
PALO_INLINE Floats polynomial(Floats x, const float (&c)[N]) {
  Floats sum = set(c[N - 1]);
  for (int64_t i = N - 2; i >= 0; --i) sum = fma(sum, x, set(c[i]));
  return sum;
}

// (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2; with these exp(r) has a relative error below 4e-9 before rounding.
constexpr float EXP_COEFFICIENTS[] = {0.49999992f, 0.16666521f, 0.041668389f, 0.0083687194f, 0.0013814627f};

// exp(x), relative error below 1.2e-7 for x in [-87.3, 88.3], to which other arguments are clamped (so the result is
// never 0 and never infinite). NaN stays NaN. x = n ln(2) + r, exp(x) = 2^n exp(r); ln(2) is split into two parts, so
// that n times the first is exact (Cody and Waite).
PALO_INLINE Floats exponential(Floats x) {
  constexpr float LOG2_E = 1.44269504f, LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
  const Floats inside = min(set(88.3f), max(set(-87.3f), x));
  const Ints n = round_to_ints(inside * set(LOG2_E));
  const Floats r = fma(to_floats(n), set(-LN2_LOW), fma(to_floats(n), set(-LN2_HIGH), inside));
  const Floats p = fma(r * r, polynomial(r, EXP_COEFFICIENTS), r);
  return (p + set(1.0f)) * power_of_two(n);
}

// -ln P(-a) for a in [0, 5.5], P the cumulative normal distribution; beyond 5.5, where P(-a) < 2e-8, only its order of
// magnitude is right.
constexpr float NORMAL_COEFFICIENTS[] = {0.69314717f,    0.79788569f,    0.31829659f,    0.036393712f, -0.0049043426f,
                                         0.00010110894f, 0.00012653257f, -2.6769907e-5f, 1.9214418e-6f};

// x P(x), P the cumulative normal distribution: x/2 (1 + erf(x / sqrt 2)). Absolute error below 1.2e-7 (1 + |x|).
// P(-a) = exp(-polynomial(a)) and P(a) = 1 - P(-a) need no case for small or large a.
PALO_INLINE Floats times_normal(Floats x) {
  const Floats a = min(set(12.0f), absolute(x));
  const Floats tail = exponential(set(0.0f) - polynomial(a, NORMAL_COEFFICIENTS));
  return x * where_negative(x, tail, set(1.0f) - tail);
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA

// x86 with AVX2: bits are counted by table, sixteen values of a half byte at a time.
#include "generic.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,popcnt,bmi2")))

static int supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi2");
}

TARGET static void floats_above(const float *z, long stride, long rows, long n, const float *t, long across, int along,
                                uint64_t *words, long out) {
    for (long r = 0; r < rows; r++, z += stride, t += across)
        for (long i = 0; i < n; i += 64) {
            uint64_t word = 0;
            long j = i, end = n < i + 64 ? n : i + 64;
            for (; j + 8 <= end; j += 8) {
                __m256 limit = along ? _mm256_loadu_ps(t + j) : _mm256_set1_ps(*t);
                __m256 over = _mm256_cmp_ps(_mm256_loadu_ps(z + j), limit, _CMP_GT_OQ);
                word |= (uint64_t)(uint8_t)_mm256_movemask_ps(over) << (j - i);
            }
            for (; j < end; j++) word |= (uint64_t)(z[j] > t[j * along]) << (j - i);
            words[r * out + i / 64] = word;
        }
}

TARGET static void integers_above(const int32_t *z, long stride, long rows, long n, const int32_t *t, long across,
                                  int along, uint64_t *words, long out) {
    above_loop(z, stride, rows, n, t, across, along, words, out);
}

TARGET static void choose(const uint64_t *words, long n, float low, float high, float *values) {
    choose_loop(words, n, low, high, values);
}

TARGET static inline __m256i counts(__m256i bits) {  // of each byte
    const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i half = _mm256_set1_epi8(15);
    __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, half));
    __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(bits, 4), half));
    return _mm256_add_epi8(low, high);
}

TARGET static inline void narrowed(const __m256i *found, int32_t *sums) {  // four times four words to 16 integers
    const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    UNROLL for (int i = 0; i < 4; i++)
        _mm_storeu_si128((__m128i *)(sums + 4 * i),
                         _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(found[i], even)));
}

// Bits that differ (or are shared) of one position, in the four vectors of 16 outputs; planes are 16 words apart.
template <bool DIFFERING>
TARGET static inline void tally(const uint64_t *x, long words, const uint64_t *w, long step, int32_t *sums) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i found[4] = {zero, zero, zero, zero};
    for (long from = 0; from < words; from += 31) {  // a byte holds 31 times 8
        __m256i bytes[4] = {zero, zero, zero, zero};
        for (long k = from; k < words && k < from + 31; k++) {
            __m256i y = _mm256_set1_epi64x((long long)x[k]);
            UNROLL for (int i = 0; i < 4; i++) {
                __m256i a = _mm256_loadu_si256((const __m256i *)(w + step * k + 4 * i));
                __m256i bits = DIFFERING ? _mm256_xor_si256(a, y) : _mm256_and_si256(a, y);
                bytes[i] = _mm256_add_epi8(bytes[i], counts(bits));
            }
        }
        UNROLL for (int i = 0; i < 4; i++) found[i] = _mm256_add_epi64(found[i], _mm256_sad_epu8(bytes[i], zero));
    }
    narrowed(found, sums);
}

TARGET static void differing(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                             int32_t *sums) {
    differing_by<tally<true>>(patches, positions, words, weights, blocks, sums);
}

TARGET static void shared(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                          int32_t *sums) {
    shared_by<tally<false>>(patches, positions, words, weights, blocks, sums);
}

template <int P>
TARGET static inline void products_tile(const uint8_t *x, long stride, long quads, const int8_t *w, int32_t *sums) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i found[P][2];
    UNROLL for (int p = 0; p < P; p++) found[p][0] = found[p][1] = _mm256_setzero_si256();
    for (long from = 0; from < quads; from += 127) {  // 16 bits hold 127 times 2 x -128
        __m256i pairs[P][2];
        UNROLL for (int p = 0; p < P; p++) pairs[p][0] = pairs[p][1] = _mm256_setzero_si256();
        for (long k = from; k < quads && k < from + 127; k++) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(w + 64 * k));
            __m256i b = _mm256_loadu_si256((const __m256i *)(w + 64 * k + 32));
            UNROLL for (int p = 0; p < P; p++) {
                int32_t four;
                __builtin_memcpy(&four, x + p * stride + 4 * k, 4);
                __m256i y = _mm256_set1_epi32(four);
                pairs[p][0] = _mm256_add_epi16(pairs[p][0], _mm256_maddubs_epi16(y, a));
                pairs[p][1] = _mm256_add_epi16(pairs[p][1], _mm256_maddubs_epi16(y, b));
            }
        }
        UNROLL for (int p = 0; p < P; p++)
            UNROLL for (int i = 0; i < 2; i++)
                found[p][i] = _mm256_add_epi32(found[p][i], _mm256_madd_epi16(pairs[p][i], ones));
    }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int i = 0; i < 2; i++) _mm256_storeu_si256((__m256i *)(sums + 16 * p + 8 * i), found[p][i]);
}

TARGET static void products(const uint8_t *patches, int positions, long stride, long quads, const int8_t *weights,
                            int blocks, int32_t *sums) {
    for (int b = 0; b < blocks; b++, weights += 64 * quads) {
        const uint8_t *x = patches;
        int left = positions;
        for (; left >= 4; left -= 4, x += 4 * stride, sums += 64) products_tile<4>(x, stride, quads, weights, sums);
        for (; left; left--, x += stride, sums += 16) products_tile<1>(x, stride, quads, weights, sums);
    }
}

TARGET static void expand(const uint64_t *words, long count, uint8_t *bytes) { expand_loop(words, count, bytes); }

TARGET static void above(const int32_t *sums, int positions, const int32_t *const *limits,
                         const int32_t *const *limits_other, long at, const uint16_t *other, uint16_t *masks) {
    if (other) return masks_loop(sums, positions, limits, limits_other, at, other, masks);
    for (int p = 0; p < positions; p++) {
        uint16_t mask = 0;
        for (int i = 0; i < 16; i += 8) {
            __m256i sum = _mm256_loadu_si256((const __m256i *)(sums + 16 * p + i));
            __m256i over = _mm256_cmpgt_epi32(sum, _mm256_loadu_si256((const __m256i *)(limits[p] + at + i)));
            mask |= (uint16_t)(_mm256_movemask_ps(_mm256_castsi256_ps(over)) << i);
        }
        masks[p] = mask;
    }
}

TARGET static void store(const int32_t *sums, int positions, int32_t factor, const int32_t *const *offsets, long at,
                         int n, int32_t *out, long stride) {
    store_loop(sums, positions, factor, offsets, at, n, out, stride);
}

const Level avx2_level = {supported, floats_above, integers_above, choose, differing,
                          shared,    products,     expand,         above,  store};
#else
const Level avx2_level = {};
#endif

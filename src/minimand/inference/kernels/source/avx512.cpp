// x86 with AVX-512 and its VPOPCNTDQ and VNNI: Ice Lake, Zen 4 and later.
#include "generic.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq,popcnt,bmi2")))

static int supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq") &&
           __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi2");
}

TARGET static inline uint64_t first(long n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

TARGET static inline __mmask16 over(__mmask16 there, const float *z, const float *t, int along) {
    __m512 limit = along ? _mm512_maskz_loadu_ps(there, t) : _mm512_set1_ps(*t);
    return _mm512_mask_cmp_ps_mask(there, _mm512_maskz_loadu_ps(there, z), limit, _CMP_GT_OQ);
}

TARGET static inline __mmask16 over(__mmask16 there, const int32_t *z, const int32_t *t, int along) {
    __m512i limit = along ? _mm512_maskz_loadu_epi32(there, t) : _mm512_set1_epi32(*t);
    return _mm512_mask_cmpgt_epi32_mask(there, _mm512_maskz_loadu_epi32(there, z), limit);
}

template <class T>
TARGET static void rows_above(const T *z, long stride, long rows, long n, const T *t, long across, int along,
                              uint64_t *words, long out) {
    for (long r = 0; r < rows; r++, z += stride, t += across)
        for (long i = 0; i < n; i += 64) {
            uint64_t word = 0, valid = first(n - i);
            for (int j = 0; j < 64 && i + j < n; j += 16)
                word |= (uint64_t)over((__mmask16)(valid >> j), z + i + j, t + (i + j) * along, along) << j;
            words[r * out + i / 64] = word;
        }
}

TARGET static void choose(const uint64_t *words, long n, float low, float high, float *values) {
    __m512 lows = _mm512_set1_ps(low), highs = _mm512_set1_ps(high);
    for (long i = 0; i < n; i += 16) {
        __m512 chosen = _mm512_mask_blend_ps((__mmask16)(words[i / 64] >> i % 64), lows, highs);
        _mm512_mask_storeu_ps(values + i, (__mmask16)first(n - i), chosen);
    }
}

TARGET static inline __m512i joined(__m512i a, __m512i b) {  // the low halves of 16 words
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return _mm512_permutex2var_epi32(a, even, b);
}

template <int P>
TARGET static inline void differing_tile(const uint64_t *x, long words, const uint64_t *w, int32_t *sums) {
    __m512i low[P], high[P];
    UNROLL for (int p = 0; p < P; p++) low[p] = high[p] = _mm512_setzero_si512();
    for (long k = 0; k < words; k++) {
        __m512i a = _mm512_loadu_si512(w + 16 * k), b = _mm512_loadu_si512(w + 16 * k + 8);
        UNROLL for (int p = 0; p < P; p++) {
            __m512i y = _mm512_set1_epi64((long long)x[p * words + k]);
            low[p] = _mm512_add_epi64(low[p], _mm512_popcnt_epi64(_mm512_xor_si512(a, y)));
            high[p] = _mm512_add_epi64(high[p], _mm512_popcnt_epi64(_mm512_xor_si512(b, y)));
        }
    }
    UNROLL for (int p = 0; p < P; p++) _mm512_storeu_si512(sums + 16 * p, joined(low[p], high[p]));
}

TARGET static void differing(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                             int32_t *sums) {
    for (int b = 0; b < blocks; b++, weights += 16 * words) {
        const uint64_t *x = patches;
        int left = positions;
        for (; left >= 8; left -= 8, x += 8 * words, sums += 128) differing_tile<8>(x, words, weights, sums);
        for (; left >= 4; left -= 4, x += 4 * words, sums += 64) differing_tile<4>(x, words, weights, sums);
        for (; left; left--, x += words, sums += 16) differing_tile<1>(x, words, weights, sums);
    }
}

template <int P>
TARGET static inline void shared_tile(const uint64_t *x, long words, const uint64_t *w, int32_t *sums) {
    __m512i found[P][4];
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int i = 0; i < 4; i++) found[p][i] = _mm512_setzero_si512();
    for (long k = 0; k < words; k++) {
        __m512i plane[4];
        UNROLL for (int i = 0; i < 4; i++) plane[i] = _mm512_loadu_si512(w + 32 * k + 8 * i);
        UNROLL for (int p = 0; p < P; p++) {
            __m512i y = _mm512_set1_epi64((long long)x[p * words + k]);
            UNROLL for (int i = 0; i < 4; i++)
                found[p][i] = _mm512_add_epi64(found[p][i], _mm512_popcnt_epi64(_mm512_and_si512(plane[i], y)));
        }
    }
    UNROLL for (int p = 0; p < P; p++) {
        __m512i ones = joined(found[p][0], found[p][1]), twos = joined(found[p][2], found[p][3]);
        _mm512_storeu_si512(sums + 16 * p, _mm512_sub_epi32(ones, _mm512_slli_epi32(twos, 1)));
    }
}

TARGET static void shared(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                          int32_t *sums) {
    for (int b = 0; b < blocks; b++, weights += 32 * words) {
        const uint64_t *x = patches;
        int left = positions;
        for (; left >= 4; left -= 4, x += 4 * words, sums += 64) shared_tile<4>(x, words, weights, sums);
        for (; left; left--, x += words, sums += 16) shared_tile<1>(x, words, weights, sums);
    }
}

// P positions times V blocks; sums of one block are `positions` apart from those of the next.
template <int P, int V>
TARGET static inline void products_tile(const uint8_t *x, long stride, long quads, const int8_t *w, int positions,
                                        int32_t *sums) {
    __m512i found[P][V];
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) found[p][v] = _mm512_setzero_si512();
    for (long k = 0; k < quads; k++) {
        __m512i weight[V];
        UNROLL for (int v = 0; v < V; v++) weight[v] = _mm512_loadu_si512(w + (v * quads + k) * 64);
        UNROLL for (int p = 0; p < P; p++) {
            int32_t four;
            __builtin_memcpy(&four, x + p * stride + 4 * k, 4);
            __m512i y = _mm512_set1_epi32(four);
            UNROLL for (int v = 0; v < V; v++) found[p][v] = _mm512_dpbusd_epi32(found[p][v], y, weight[v]);
        }
    }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) _mm512_storeu_si512(sums + (v * positions + p) * 16, found[p][v]);
}

template <int V>
TARGET static inline void products_blocks(const uint8_t *x, int positions, long stride, long quads, const int8_t *w,
                                          int32_t *sums) {
    int left = positions;
    for (; left >= 6; left -= 6, x += 6 * stride, sums += 96) products_tile<6, V>(x, stride, quads, w, positions, sums);
    for (; left >= 2; left -= 2, x += 2 * stride, sums += 32) products_tile<2, V>(x, stride, quads, w, positions, sums);
    for (; left; left--, x += stride, sums += 16) products_tile<1, V>(x, stride, quads, w, positions, sums);
}

TARGET static void products(const uint8_t *patches, int positions, long stride, long quads, const int8_t *weights,
                            int blocks, int32_t *sums) {
    for (; blocks >= 4; blocks -= 4, weights += 4 * 64 * quads, sums += 4 * 16 * positions)
        products_blocks<4>(patches, positions, stride, quads, weights, sums);
    for (; blocks >= 2; blocks -= 2, weights += 2 * 64 * quads, sums += 2 * 16 * positions)
        products_blocks<2>(patches, positions, stride, quads, weights, sums);
    for (; blocks; blocks--, weights += 64 * quads, sums += 16 * positions)
        products_blocks<1>(patches, positions, stride, quads, weights, sums);
}

TARGET static void expand(const uint64_t *words, long count, uint8_t *bytes) {
    for (long i = 0; i < count; i++) _mm512_storeu_si512(bytes + 64 * i, _mm512_maskz_set1_epi8(words[i], 1));
}

TARGET static void above(const int32_t *sums, int positions, const int32_t *const *limits,
                         const int32_t *const *limits_other, long at, const uint16_t *other, uint16_t *masks) {
    for (int p = 0; p < positions; p++) {
        __m512i limit = _mm512_loadu_si512(limits[p] + at);
        if (other) limit = _mm512_mask_loadu_epi32(limit, other[p], limits_other[p] + at);
        masks[p] = _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(sums + 16 * p), limit);
    }
}

TARGET static void store(const int32_t *sums, int positions, int32_t factor, const int32_t *const *offsets, long at,
                         int n, int32_t *out, long stride) {
    store_loop(sums, positions, factor, offsets, at, n, out, stride);
}

const Level avx512_level = {
    supported, rows_above<float>, rows_above<int32_t>, choose, differing, shared, products, expand, above, store,
};
#else
const Level avx512_level = {};
#endif

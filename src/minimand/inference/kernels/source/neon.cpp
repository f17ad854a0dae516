// 64-bit ARM: bits are counted byte by byte; products by its dot product where there is one.
#include "generic.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

static int supported(void) { return 1; }

static int has_dot_product(void) {
#if defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#else
    return 1;  // every Apple processor
#endif
}

static void floats_above(const float *z, long stride, long rows, long n, const float *t, long across, int along,
                         uint64_t *words, long out) {
    const uint32x4_t bits = {1, 2, 4, 8};
    for (long r = 0; r < rows; r++, z += stride, t += across)
        for (long i = 0; i < n; i += 64) {
            uint64_t word = 0;
            long j = i, end = n < i + 64 ? n : i + 64;
            for (; j + 4 <= end; j += 4) {
                float32x4_t limit = along ? vld1q_f32(t + j) : vdupq_n_f32(*t);
                word |= (uint64_t)vaddvq_u32(vandq_u32(vcgtq_f32(vld1q_f32(z + j), limit), bits)) << (j - i);
            }
            for (; j < end; j++) word |= (uint64_t)(z[j] > t[j * along]) << (j - i);
            words[r * out + i / 64] = word;
        }
}

// Bits that differ (or are shared) of one position, in the eight vectors of 16 outputs.
template <bool DIFFERING>
static inline void tally(const uint64_t *x, long words, const uint64_t *w, long step, int32_t *sums) {
    uint32x4_t found[4];
    UNROLL for (int i = 0; i < 4; i++) found[i] = vdupq_n_u32(0);
    for (long from = 0; from < words; from += 31) {  // a byte holds 31 times 8
        uint8x16_t bytes[8];
        UNROLL for (int i = 0; i < 8; i++) bytes[i] = vdupq_n_u8(0);
        for (long k = from; k < words && k < from + 31; k++) {
            uint64x2_t y = vdupq_n_u64(x[k]);
            UNROLL for (int i = 0; i < 8; i++) {
                uint64x2_t a = vld1q_u64(w + step * k + 2 * i);
                uint64x2_t bits = DIFFERING ? veorq_u64(a, y) : vandq_u64(a, y);
                bytes[i] = vaddq_u8(bytes[i], vcntq_u8(vreinterpretq_u8_u64(bits)));
            }
        }
        UNROLL for (int i = 0; i < 4; i++) {
            uint32x4_t a = vpaddlq_u16(vpaddlq_u8(bytes[2 * i])), b = vpaddlq_u16(vpaddlq_u8(bytes[2 * i + 1]));
            found[i] = vaddq_u32(found[i], vpaddq_u32(a, b));
        }
    }
    UNROLL for (int i = 0; i < 4; i++) vst1q_s32(sums + 4 * i, vreinterpretq_s32_u32(found[i]));
}

static void differing(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                      int32_t *sums) {
    differing_by<tally<true>>(patches, positions, words, weights, blocks, sums);
}

static void shared(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                   int32_t *sums) {
    shared_by<tally<false>>(patches, positions, words, weights, blocks, sums);
}

template <int P>
__attribute__((target("arch=armv8.2-a+dotprod"))) static inline void products_tile(const uint8_t *x, long stride,
                                                                                   long quads, const int8_t *w,
                                                                                   int32_t *sums) {
    int32x4_t found[P][4];
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int i = 0; i < 4; i++) found[p][i] = vdupq_n_s32(0);
    for (long k = 0; k < quads; k++)
        UNROLL for (int p = 0; p < P; p++) {
            int32_t four;
            __builtin_memcpy(&four, x + p * stride + 4 * k, 4);
            int8x16_t y = vreinterpretq_s8_s32(vdupq_n_s32(four));
            UNROLL for (int i = 0; i < 4; i++) found[p][i] = vdotq_s32(found[p][i], vld1q_s8(w + 64 * k + 16 * i), y);
        }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int i = 0; i < 4; i++) vst1q_s32(sums + 16 * p + 4 * i, found[p][i]);
}

__attribute__((target("arch=armv8.2-a+dotprod"))) static void dot_products(const uint8_t *patches, int positions,
                                                                           long stride, long quads,
                                                                           const int8_t *weights, int blocks,
                                                                           int32_t *sums) {
    for (int b = 0; b < blocks; b++, weights += 64 * quads) {
        const uint8_t *x = patches;
        int left = positions;
        for (; left >= 4; left -= 4, x += 4 * stride, sums += 64) products_tile<4>(x, stride, quads, weights, sums);
        for (; left; left--, x += stride, sums += 16) products_tile<1>(x, stride, quads, weights, sums);
    }
}

static void plain_products(const uint8_t *patches, int positions, long stride, long quads, const int8_t *weights,
                           int blocks, int32_t *sums) {
    for (int b = 0; b < blocks; b++, weights += 64 * quads)
        for (int p = 0; p < positions; p++, sums += 16) {
            int32x4_t found[4];
            UNROLL for (int i = 0; i < 4; i++) found[i] = vdupq_n_s32(0);
            for (long from = 0; from < quads; from += 255) {  // 16 bits hold 255 times -128
                int16x8_t products[8];
                UNROLL for (int i = 0; i < 8; i++) products[i] = vdupq_n_s16(0);
                for (long k = from; k < quads && k < from + 255; k++) {
                    int32_t four;
                    __builtin_memcpy(&four, patches + p * stride + 4 * k, 4);
                    const int8x8_t y = vreinterpret_s8_s32(vdup_n_s32(four));
                    UNROLL for (int i = 0; i < 8; i++)
                        products[i] = vmlal_s8(products[i], vld1_s8(weights + 64 * k + 8 * i), y);
                }
                UNROLL for (int i = 0; i < 4; i++) {
                    const int32x4_t a = vpaddlq_s16(products[2 * i]), b = vpaddlq_s16(products[2 * i + 1]);
                    found[i] = vaddq_s32(found[i], vpaddq_s32(a, b));
                }
            }
            UNROLL for (int i = 0; i < 4; i++) vst1q_s32(sums + 4 * i, found[i]);
        }
}

static void products(const uint8_t *patches, int positions, long stride, long quads, const int8_t *weights, int blocks,
                     int32_t *sums) {
    static const int dot = has_dot_product();
    (dot ? dot_products : plain_products)(patches, positions, stride, quads, weights, blocks, sums);
}

const Level neon_level = {
    supported, floats_above, above_loop<int32_t>, choose_loop, differing,
    shared,    products,     expand_loop,         masks_loop,  store_loop,
};
#else
const Level neon_level = {};
#endif

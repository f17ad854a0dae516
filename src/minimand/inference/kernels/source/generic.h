// Plain loops, which a level compiles for its own processor.
#pragma once

#include "level.h"

#define INLINE static inline __attribute__((always_inline))
// Arrays of vectors that loops of known length go through stay in registers.
#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL16 _Pragma("GCC unroll 16")

template <class T>
INLINE void above_loop(const T *z, long stride, long rows, long n, const T *t, long across, int along, uint64_t *words,
                       long out) {
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < n; i += 64) {
            uint64_t word = 0;
            for (long j = i; j < n && j < i + 64; j++)
                word |= (uint64_t)(z[r * stride + j] > t[r * across + j * along]) << (j - i);
            words[r * out + i / 64] = word;
        }
}

INLINE void choose_loop(const uint64_t *words, long n, float low, float high, float *values) {
    for (long i = 0; i < n; i++) values[i] = words[i / 64] >> i % 64 & 1 ? high : low;
}

INLINE void expand_loop(const uint64_t *words, long count, uint8_t *bytes) {
    for (long i = 0; i < count; i++)  // eight bits to eight bytes by a product
        for (int j = 0; j < 8; j++) {
            uint64_t spread = (words[i] >> 8 * j & 0xff) * 0x0101010101010101u & 0x8040201008040201u;
            spread = ((spread + 0x7f7f7f7f7f7f7f7fu) | spread) >> 7 & 0x0101010101010101u;
            __builtin_memcpy(bytes + 64 * i + 8 * j, &spread, 8);
        }
}

INLINE void differing_loop(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                           int32_t *sums) {
    for (int b = 0; b < blocks; b++)
        for (int p = 0; p < positions; p++) {
            int32_t found[16] = {0};
            for (long k = 0; k < words; k++)
                for (int o = 0; o < 16; o++)
                    found[o] += __builtin_popcountll(patches[p * words + k] ^ weights[(b * words + k) * 16 + o]);
            __builtin_memcpy(sums + (b * positions + p) * 16, found, sizeof found);
        }
}

// What a level's way of counting, of one position and 16 outputs, gives of all: TALLY is told how far weights go on.
template <void (*TALLY)(const uint64_t *, long, const uint64_t *, long, int32_t *)>
INLINE void differing_by(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                         int32_t *sums) {
    for (int b = 0; b < blocks; b++, weights += 16 * words)
        for (int p = 0; p < positions; p++, sums += 16) TALLY(patches + p * words, words, weights, 16, sums);
}

template <void (*TALLY)(const uint64_t *, long, const uint64_t *, long, int32_t *)>
INLINE void shared_by(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                      int32_t *sums) {
    for (int b = 0; b < blocks; b++, weights += 32 * words)
        for (int p = 0; p < positions; p++, sums += 16) {
            int32_t twos[16];
            TALLY(patches + p * words, words, weights, 32, sums);
            TALLY(patches + p * words, words, weights + 16, 32, twos);
            for (int o = 0; o < 16; o++) sums[o] -= 2 * twos[o];
        }
}

INLINE void masks_loop(const int32_t *sums, int positions, const int32_t *const *limits,
                       const int32_t *const *limits_other, long at, const uint16_t *other, uint16_t *masks) {
    for (int p = 0; p < positions; p++) {
        uint16_t mask = 0;
        for (int o = 0; o < 16; o++) {
            const int32_t *limit = other && other[p] >> o & 1 ? limits_other[p] : limits[p];
            mask |= (uint16_t)((sums[16 * p + o] > limit[at + o]) << o);
        }
        masks[p] = mask;
    }
}

INLINE void store_loop(const int32_t *sums, int positions, int32_t factor, const int32_t *const *offsets, long at,
                       int n, int32_t *out, long stride) {
    for (int p = 0; p < positions; p++, sums += 16, out += stride) {
        const int32_t *offset = offsets[p] + at;
        if (n == 16)
            for (int o = 0; o < 16; o++) out[o] = factor * sums[o] + offset[o];
        else
            for (int o = 0; o < n; o++) out[o] = factor * sums[o] + offset[o];
    }
}

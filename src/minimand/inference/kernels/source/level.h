// What one kind of processor does its own way. Outputs go in blocks of 16; sums are [block][position][16].
#pragma once

#include <stdint.h>

struct Level {
    int (*supported)(void);
    // Words of z > threshold: row r of n values starts at z + r * stride, its threshold at t + r * across, going on by
    // `along` (0 or 1).
    void (*floats_above)(const float *z, long stride, long rows, long n, const float *t, long across, int along,
                         uint64_t *words, long out);
    void (*integers_above)(const int32_t *z, long stride, long rows, long n, const int32_t *t, long across, int along,
                           uint64_t *words, long out);
    // low or high by bits.
    void (*choose)(const uint64_t *words, long n, float low, float high, float *values);
    // Differing bits of patches [position][words] and weights [block][words][16].
    void (*differing)(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                      int32_t *sums);
    // Bits of both, of weights [block][words][2][16] whose two planes count 1 and -2. This and the next may be null.
    void (*shared)(const uint64_t *patches, int positions, long words, const uint64_t *weights, int blocks,
                   int32_t *sums);
    // Products of bytes 0 or 1, [position][stride], and weights [block][quads][16][4].
    void (*products)(const uint8_t *patches, int positions, long stride, long quads, const int8_t *weights, int blocks,
                     int32_t *sums);
    // Words as bytes 0 or 1.
    void (*expand)(const uint64_t *words, long count, uint8_t *bytes);
    // Bits of 16 sums > limits[position] + at, for each position; where `other` has a bit, of > limits_other.
    void (*above)(const int32_t *sums, int positions, const int32_t *const *limits, const int32_t *const *limits_other,
                  long at, const uint16_t *other, uint16_t *masks);
    // The first n of 16 sums, times factor, plus offsets[position] + at, to out, a row for each position.
    void (*store)(const int32_t *sums, int positions, int32_t factor, const int32_t *const *offsets, long at, int n,
                  int32_t *out, long stride);
};

extern const Level portable_level, neon_level, avx2_level, avx512_level;

// From the plainest on, in the order of Python's names.
extern const Level *const levels[4];

// Packing, unpacking and pooling, on the processor's level.
#include "generic.h"

#include <string.h>

const Level *const levels[] = {&portable_level, &neon_level, &avx2_level, &avx512_level};

extern "C" int minimand_supported(int level) { return levels[level]->supported && levels[level]->supported(); }

// A square of bits, rows to columns.
static void transpose(uint64_t *square) {
    uint64_t mask = 0x00000000ffffffffull;
    for (int half = 32; half; half >>= 1, mask ^= mask << half)
        for (int i = 0; i < 64; i = (i + half + 1) & ~half) {
            uint64_t moved = (square[i] >> half ^ square[i + half]) & mask;
            square[i] ^= moved << half;
            square[i + half] ^= moved;
        }
}

template <class T>
static void pack(void (*rows_above)(const T *, long, long, long, const T *, long, int, uint64_t *, long), const T *z,
                 const long *shape, int channels_last, const T *thresholds, const uint64_t *flip, uint64_t *words,
                 int threads) {
    static const T zero = 0;
    const long samples = shape[0], channels = shape[1], size = shape[2], count = (channels + 63) / 64;
    const T *t = thresholds ? thresholds : &zero;
    const int given = thresholds != nullptr;
    if (channels_last) {
        const long rows = samples * size, part = 256;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (long from = 0; from < rows; from += part) {
            const long n = rows - from < part ? rows - from : part;
            rows_above(z + from * channels, channels, n, channels, t, 0, given, words + from * count, count);
        }
    } else {
        const long parts = (size + 63) / 64;
#pragma omp parallel for collapse(2) num_threads(threads) if (threads > 1)
        for (long s = 0; s < samples; s++)
            for (long part = 0; part < parts; part++)
                for (long w = 0; w < count; w++) {
                    uint64_t square[64];
                    const long here = channels - 64 * w < 64 ? channels - 64 * w : 64;
                    const long n = size - 64 * part < 64 ? size - 64 * part : 64;
                    memset(square + here, 0, (64 - here) * sizeof *square);
                    rows_above(z + (s * channels + 64 * w) * size + 64 * part, size, here, n, t + 64 * w * given, given,
                               0, square, 1);
                    transpose(square);
                    for (long i = 0; i < n; i++) words[(s * size + 64 * part + i) * count + w] = square[i];
                }
    }
    if (flip)
        for (long i = 0; i < samples * size; i++)
            for (long w = 0; w < count; w++) words[i * count + w] ^= flip[w];
}

// Shape is samples, channels, positions of each.
extern "C" void minimand_pack_floats(int level, const float *z, const long *shape, int channels_last,
                                     const float *thresholds, const uint64_t *flip, uint64_t *words, int threads) {
    pack(levels[level]->floats_above, z, shape, channels_last, thresholds, flip, words, threads);
}

extern "C" void minimand_pack_integers(int level, const int32_t *z, const long *shape, int channels_last,
                                       const int32_t *thresholds, const uint64_t *flip, uint64_t *words, int threads) {
    pack(levels[level]->integers_above, z, shape, channels_last, thresholds, flip, words, threads);
}

extern "C" void minimand_unpack(int level, const uint64_t *words, long rows, long channels, float low, float high,
                                float *values, int threads) {
    const long count = (channels + 63) / 64;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long i = 0; i < rows; i++)
        levels[level]->choose(words + i * count, channels, low, high, values + i * channels);
}

// Shape is samples, height, width, words; window is kernel, stride, padding, in pairs; out is height, width.
extern "C" void minimand_pool(const uint64_t *words, const long *shape, const long *window, const long *out,
                              uint64_t *pooled, int threads) {
    const long height = shape[1], width = shape[2], count = shape[3];
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < shape[0] * out[0]; row++) {
        const uint64_t *sample = words + row / out[0] * height * width * count;
        const long top = row % out[0] * window[2] - window[4];
        for (long x = 0; x < out[1]; x++) {
            uint64_t *to = pooled + (row * out[1] + x) * count;
            const long left = x * window[3] - window[5];
            memset(to, 0, count * sizeof *to);
            for (long i = top < 0 ? 0 : top; i < top + window[0] && i < height; i++)
                for (long j = left < 0 ? 0 : left; j < left + window[1] && j < width; j++)
                    for (long w = 0; w < count; w++) to[w] |= sample[(i * width + j) * count + w];
        }
    }
}

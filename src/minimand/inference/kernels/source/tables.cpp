// Weights of more bits on AVX-512, where it permutes 16 bits in one operation (Zen 4 and later): activations of five
// inputs are the index into a table of their 32 possible sums, and one permutation looks up 32 positions.
#include "generic.h"
#include "tables.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

int tables_supported(void) { return avx512_level.supported() && __builtin_cpu_is("amd"); }

// One stage of the transposition of a square of bits, whose rows are closer than a vector.
template <int HALF>
TARGET static inline __m512i exchanged(__m512i rows, __m512i lanes, __mmask8 upper, long long mask) {
    const __m512i there = _mm512_permutexvar_epi64(lanes, rows), keep = _mm512_set1_epi64(mask);
    // Rows above keep their low bits and take the others' as high ones; rows below the other way around.
    __m512i moved = _mm512_slli_epi64(_mm512_and_si512(there, keep), HALF);
    moved = _mm512_mask_and_epi64(moved, upper, _mm512_srli_epi64(there, HALF), keep);
    const __m512i own = _mm512_mask_andnot_epi64(_mm512_and_si512(rows, keep), upper, keep, rows);
    return _mm512_or_si512(own, moved);
}

// A square of 64 x 64 bits, row r of which is word r * stride; to planes two words apart.
TARGET static void transposed(const uint64_t *from, long stride, int rows, uint64_t *to) {
    __m512i square[8];
    uint64_t gathered[64];
    for (int i = 0; i < 64; i++) gathered[i] = i < rows ? from[i * stride] : 0;
    UNROLL for (int i = 0; i < 8; i++) square[i] = _mm512_loadu_si512(gathered + 8 * i);
    UNROLL for (int s = 0; s < 3; s++) {  // 32, 16, 8 rows apart: 4, 2, 1 vectors
        const long long low[] = {0x00000000ffffffff, 0x0000ffff0000ffff, 0x00ff00ff00ff00ff};
        const int half = 32 >> s, apart = 4 >> s;
        const __m512i mask = _mm512_set1_epi64(low[s]);
        UNROLL for (int i = 0; i < 8; i++) {
            if (i & apart) continue;
            const __m512i shifted = _mm512_srl_epi64(square[i], _mm_cvtsi32_si128(half));
            const __m512i moved = _mm512_and_si512(_mm512_xor_si512(shifted, square[i + apart]), mask);
            square[i] = _mm512_xor_si512(square[i], _mm512_sll_epi64(moved, _mm_cvtsi32_si128(half)));
            square[i + apart] = _mm512_xor_si512(square[i + apart], moved);
        }
    }
    const __m512i four = _mm512_set_epi64(3, 2, 1, 0, 7, 6, 5, 4), two = _mm512_set_epi64(5, 4, 7, 6, 1, 0, 3, 2);
    const __m512i one = _mm512_set_epi64(6, 7, 4, 5, 2, 3, 0, 1);
    UNROLL for (int i = 0; i < 8; i++) {
        square[i] = exchanged<4>(square[i], four, 0xf0, 0x0f0f0f0f0f0f0f0f);
        square[i] = exchanged<2>(square[i], two, 0xcc, 0x3333333333333333);
        square[i] = exchanged<1>(square[i], one, 0xaa, 0x5555555555555555);
        _mm512_storeu_si512(gathered + 8 * i, square[i]);
    }
    for (int i = 0; i < 64; i++) to[2 * i] = gathered[i];
}

TARGET void table_indices(const uint64_t *patches, int positions, long words, long groups, uint64_t *planes,
                          uint16_t *indices) {
    for (long k = 0; k < words; k++)
        for (int half = 0; half < 2 && 64 * half < positions; half++) {
            const int rows = positions - 64 * half < 64 ? positions - 64 * half : 64;
            transposed(patches + 64 * half * words + k, words, rows, planes + 128 * k + half);
        }
    const int vectors = (positions + 31) / 32;
    for (long g = 0; g < groups; g++)
        for (int v = 0; v < vectors; v++) {
            const uint32_t *plane = (const uint32_t *)(planes + 2 * FIVE * g) + v;
            __m512i index = _mm512_maskz_set1_epi16(plane[0], 1);
            UNROLL for (int i = 1; i < 5; i++)
                index = _mm512_mask_add_epi16(index, plane[4 * i], index, _mm512_set1_epi16((short)(1 << i)));
            _mm512_storeu_si512(indices + POSITIONS * g + 32 * v, index);
        }
}

// Sums of R outputs at V times 32 positions, to rows of POSITIONS.
template <int V, int R>
TARGET static inline void look_up(const uint16_t *indices, long groups, const int16_t *tables, int32_t *sums) {
    const __m512i zero = _mm512_setzero_si512();
    __m512i wide[R][V][2];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) wide[r][v][0] = wide[r][v][1] = zero;
    for (long from = 0; from < groups; from += 51) {  // 16 bits hold 51 times 5 x -128
        const long end = groups < from + 51 ? groups : from + 51;
        __m512i found[R][V];
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < V; v++) found[r][v] = zero;
        for (long g = from; g < end; g++) {
            __m512i index[V];
            UNROLL for (int v = 0; v < V; v++) index[v] = _mm512_loadu_si512(indices + POSITIONS * g + 32 * v);
            UNROLL for (int r = 0; r < R; r++) {
                const __m512i table = _mm512_loadu_si512(tables + (4 * g + r) * 32);
                UNROLL for (int v = 0; v < V; v++)
                    found[r][v] = _mm512_add_epi16(found[r][v], _mm512_permutexvar_epi16(index[v], table));
            }
        }
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < V; v++) {
                const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(found[r][v]));
                const __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(found[r][v], 1));
                wide[r][v][0] = _mm512_add_epi32(wide[r][v][0], low);
                wide[r][v][1] = _mm512_add_epi32(wide[r][v][1], high);
            }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) {
            _mm512_storeu_si512(sums + r * POSITIONS + 32 * v, wide[r][v][0]);
            _mm512_storeu_si512(sums + r * POSITIONS + 32 * v + 16, wide[r][v][1]);
        }
}

// 16 rows of 16, `stride` apart, to columns.
TARGET static inline void turned(const int32_t *from, long stride, int columns, int32_t *to) {
    __m512i a[16], b[16];
    UNROLL16 for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * stride);
    UNROLL for (int i = 0; i < 8; i++) {
        b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int j = 0; j < 2; j++) {
            a[4 * i + 2 * j] = _mm512_unpacklo_epi64(b[4 * i + j], b[4 * i + j + 2]);
            a[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(b[4 * i + j], b[4 * i + j + 2]);
        }
    UNROLL for (int j = 0; j < 4; j++) {  // a[4 i + j] has in quarter q column 4 q + j of rows 4 i and on
        const __m512i low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88);
        const __m512i high = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd);
        const __m512i lower = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88);
        const __m512i higher = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd);
        b[j] = _mm512_shuffle_i32x4(low, lower, 0x88), b[8 + j] = _mm512_shuffle_i32x4(low, lower, 0xdd);
        b[4 + j] = _mm512_shuffle_i32x4(high, higher, 0x88), b[12 + j] = _mm512_shuffle_i32x4(high, higher, 0xdd);
    }
    UNROLL16 for (int i = 0; i < 16; i++)
        if (i < columns) _mm512_storeu_si512(to + 16 * i, b[i]);
}

TARGET void table_sums(const uint16_t *indices, int positions, long groups, const int16_t *tables, int blocks,
                       int32_t *sums) {
    const int vectors = (positions + 31) / 32;
    for (int b = 0; b < blocks; b++, sums += 16 * positions) {
        int32_t rows[16 * POSITIONS];
        for (int r = 0; r < 16; r += 4, tables += 4 * 32 * groups) {
            int32_t *to = rows + r * POSITIONS;
            if (vectors > 2)
                look_up<4, 4>(indices, groups, tables, to);
            else if (vectors == 2)
                look_up<2, 4>(indices, groups, tables, to);
            else
                look_up<1, 4>(indices, groups, tables, to);
        }
        for (int p = 0; p < positions; p += 16)
            turned(rows + p, POSITIONS, positions - p < 16 ? positions - p : 16, sums + 16 * p);
    }
}
#else
int tables_supported(void) { return 0; }
void table_indices(const uint64_t *, int, long, long, uint64_t *, uint16_t *) {}
void table_sums(const uint16_t *, int, long, const int16_t *, int, int32_t *) {}
#endif

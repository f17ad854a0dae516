// Sums looked up in tables, of FIVE inputs each, for up to POSITIONS positions at a time.
#pragma once

#include <stdint.h>

enum { FIVE = 5, POSITIONS = 128 };

int tables_supported(void);
// Indices [group][POSITIONS] from patches [position][words]. Planes is room for two words for each bit of a patch, and
// FIVE more that are 0.
void table_indices(const uint64_t *patches, int positions, long words, long groups, uint64_t *planes,
                   uint16_t *indices);
// Sums as a level gives them, from tables [outputs / 4][group][4][32].
void table_sums(const uint16_t *indices, int positions, long groups, const int16_t *tables, int blocks, int32_t *sums);

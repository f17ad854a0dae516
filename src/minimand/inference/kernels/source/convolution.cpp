// Convolution of bits: windows are gathered as bits, tile by tile, and multiplied by the processor's level.
#include "generic.h"
#include "tables.h"

#include <string.h>

#include <algorithm>
#include <vector>

static_assert(sizeof(long) == sizeof(void *), "Python passes a convolution as an array of long");

enum Kind { DIFFERING = 1, SHARED = 2, PRODUCTS = 8, TABLES = 16 };  // the way that the weights are laid out for

struct Convolution {
    long samples, height, width, channels, outputs, groups;
    long kernel[2], stride[2], padding[2], dilation[2], out[2];
    long kind, low, level, threads;
    const uint64_t *words;
    const void *weights;
    const int32_t *taps;  // [tap][output]: the sum of its weights
    const int32_t *ones;  // [output]: how many weights are 1, where the kind is DIFFERING
    int32_t *sums;        // the sums are wanted, or
    const int32_t *thresholds, *thresholds_other;
    const uint8_t *flip;
    const uint64_t *other;
    uint64_t *high;  // the bits
};

namespace {

const int MOST = POSITIONS;  // positions in a tile
const int BLOCKS = 4;        // of 16 outputs, of one pass over a tile
typedef std::vector<int32_t> Integers;

int tile_size(const Convolution &c) { return c.kind == TABLES ? MOST : 24; }

long up(long n, long unit) { return (n + unit - 1) / unit; }

// The taps of a window that are inside, along one axis, for each output; windows of equal taps are of one class.
struct Axis {
    std::vector<long> of, from, to;
    Axis(const Convolution &c, int axis) {
        const long size = axis ? c.width : c.height;
        for (long i = 0; i < c.out[axis]; i++) {
            long a = 0, b = c.kernel[axis], first = i * c.stride[axis] - c.padding[axis];
            while (a < b && first + a * c.dilation[axis] < 0) a++;
            while (b > a && first + (b - 1) * c.dilation[axis] >= size) b--;
            size_t found = 0;
            while (found < from.size() && (from[found] != a || to[found] != b)) found++;
            if (found == from.size()) from.push_back(a), to.push_back(b);
            of.push_back((long)found);
        }
    }
};

// What the level counts is a; the sum is factor * a + offset of its class.
struct Sums {
    int32_t factor;
    std::vector<Integers> offsets;
    Sums(const Convolution &c, const Axis &rows, const Axis &columns, long padded) {
        const int32_t times = c.low ? 2 : 1;
        factor = c.kind == DIFFERING ? -times : times;
        for (size_t y = 0; y < rows.from.size(); y++)
            for (size_t x = 0; x < columns.from.size(); x++) {
                Integers offset(padded, 0);
                if (c.kind == DIFFERING)
                    for (long o = 0; o < padded; o++) offset[o] = times * c.ones[o];
                if (c.low)
                    for (long i = rows.from[y]; i < rows.to[y]; i++)
                        for (long j = columns.from[x]; j < columns.to[x]; j++)
                            for (long o = 0; o < padded; o++) offset[o] -= c.taps[(i * c.kernel[1] + j) * padded + o];
                offsets.push_back(offset);
            }
    }

    // Limits of a that are thresholds of the sum: with a negative factor the bit is the opposite one.
    std::vector<Integers> limits(const Convolution &c, const int32_t *thresholds, long padded) const {
        const long each = c.outputs / c.groups, room = padded / c.groups;
        const int shift = factor == 2 || factor == -2;
        std::vector<Integers> found;
        for (const Integers &offset : offsets) {
            Integers limit(padded, factor < 0 ? INT32_MIN : INT32_MAX);  // beyond the outputs no bit is 1
            for (long g = 0; g < c.groups; g++)
                for (long o = 0; o < each; o++) {
                    const int64_t floor = ((int64_t)thresholds[g * each + o] - offset[g * room + o]) >> shift;
                    const int64_t exact = factor < 0 ? -floor - 1 : floor, least = INT32_MIN, most = INT32_MAX;
                    limit[g * room + o] = (int32_t)std::min(std::max(exact, least), most);
                }
            found.push_back(limit);
        }
        return found;
    }
};

INLINE void append(uint64_t *to, long at, const uint64_t *from, long bit, long n) {
    for (long i = 0; i < n; i += 64) {
        const unsigned long left = n - i < 64 ? n - i : 64, source = bit + i, target = at + i;
        uint64_t word = from[source / 64] >> source % 64;
        if (source % 64 + left > 64) word |= from[source / 64 + 1] << (64 - source % 64);
        if (left < 64) word &= (1ull << left) - 1;
        to[target / 64] |= word << target % 64;
        if (target % 64 + left > 64) to[target / 64 + 1] |= word >> (64 - target % 64);
    }
}

// All of a window, whose places have n < 64 bits from `bit` on of one word; put together in a register.
__attribute__((noinline)) void narrow_window(uint64_t *to, const uint64_t *from, long bit, long n, long rows, long down,
                                             long columns, long right) {
    const uint64_t mask = (1ull << n) - 1;
    uint64_t part = 0;
    long at = 0;
    for (long i = 0; i < rows; i++, from += down)
        for (long j = 0; j < columns; j++) {
            const uint64_t word = from[j * right] >> bit & mask;
            part |= word << at;
            at += n;
            if (at >= 64) at -= 64, *to++ = part, part = word >> (n - at);
        }
    if (at) *to = part;
}

uint16_t bits16(const uint64_t *words, long count, long bit) {
    uint64_t word = words[bit / 64] >> bit % 64;
    if (bit % 64 > 48 && bit / 64 + 1 < count) word |= words[bit / 64 + 1] << (64 - bit % 64);
    return (uint16_t)word;
}

struct Tile {
    const Convolution &c;
    const Axis &rows, &columns;
    int size;                    // positions
    long inputs, count, length;  // channels of a group, words of a position, words of a window
    long fives;                  // groups of five inputs
    long where[MOST];            // classes of the positions
    std::vector<uint64_t> store, planes;
    std::vector<uint8_t> bytes;
    std::vector<uint16_t> indices;
    int32_t sums[BLOCKS * MOST * 16];

    Tile(const Convolution &c, const Axis &rows, const Axis &columns)
        : c(c), rows(rows), columns(columns), size(tile_size(c)), inputs(c.channels / c.groups),
          count(up(c.channels, 64)), length(up(inputs * c.kernel[0] * c.kernel[1], 64)),
          fives(up(inputs * c.kernel[0] * c.kernel[1], FIVE)),
          store(size * length), planes(c.kind == TABLES ? 2 * (64 * length + FIVE) : 0),
          bytes(c.kind == PRODUCTS ? size * length * 64 : 0), indices(c.kind == TABLES ? fives * MOST : 0) {}

    // The windows of positions from `first` on, as bits.
    const uint64_t *gather(long first, int n, long group) {
        const bool whole = inputs % 64 == 0, direct = c.kernel[0] * c.kernel[1] == 1 && c.groups == 1 &&
                                                      c.stride[0] * c.stride[1] == 1 && !(c.padding[0] | c.padding[1]);
        if (direct) {
            memset(where, 0, sizeof where);
            return c.words + first * count;
        }
        const long bit = group * inputs, each = inputs / 64;
        const bool narrow = count == 1 && inputs < 64;
        const bool runs = whole && c.groups == 1 && c.dilation[1] == 1;  // a row of a window is words in a row
        long x = first % c.out[1], y = first / c.out[1] % c.out[0], s = first / (c.out[0] * c.out[1]);
        for (int p = 0; p < n; p++) {
            const long row = rows.of[y], column = columns.of[x];
            const long top = y * c.stride[0] - c.padding[0], left = x * c.stride[1] - c.padding[1];
            uint64_t *to = store.data() + p * length;
            where[p] = row * (long)columns.from.size() + column;
            const bool inside = rows.to[row] - rows.from[row] == c.kernel[0] &&
                                columns.to[column] - columns.from[column] == c.kernel[1];
            if (!inside || !(whole || narrow)) std::fill(to, to + length, 0);
            if (narrow && inside)
                narrow_window(to, c.words + (s * c.height + top) * c.width + left, bit, inputs, c.kernel[0],
                              c.dilation[0] * c.width, c.kernel[1], c.dilation[1]);
            for (long i = rows.from[row]; i < rows.to[row] && !(narrow && inside); i++) {
                const long start = columns.from[column], end = columns.to[column];
                const uint64_t *line = c.words + (s * c.height + top + i * c.dilation[0]) * c.width * count;
                const uint64_t *from = line + (left + start * c.dilation[1]) * count;
                unsigned long tap = i * c.kernel[1] + start;
                if (runs) {
                    for (long w = 0; w < (end - start) * each; w++) to[tap * each + w] = from[w];
                    continue;
                }
                for (long j = start; j < end; j++, tap++, from += c.dilation[1] * count)
                    if (whole)
                        for (long w = 0; w < each; w++) to[tap * each + w] = from[bit / 64 + w];
                    else
                        append(to, tap * inputs, from, bit, inputs);
            }
            if (++x == c.out[1] && (x = 0, ++y) == c.out[0]) y = 0, s++;
        }
        return store.data();
    }

    // What the way of multiplying needs of the windows.
    void prepare(const Level &level, const uint64_t *patches, int n) {
        if (c.kind == PRODUCTS) level.expand(patches, n * length, bytes.data());
        if (c.kind == TABLES) table_indices(patches, n, length, fives, planes.data(), indices.data());
    }

    void multiply(const Level &level, const uint64_t *patches, int n, long block, int blocks) {
        if (c.kind == TABLES) {
            const int16_t *tables = (const int16_t *)c.weights + block * 16 * fives * 32;
            table_sums(indices.data(), n, fives, tables, blocks, sums);
        } else if (c.kind == PRODUCTS) {
            const long quads = up(inputs * c.kernel[0] * c.kernel[1], 4);
            const int8_t *weights = (const int8_t *)c.weights + block * quads * 64;
            level.products(bytes.data(), n, length * 64, quads, weights, blocks, sums);
        } else {
            const uint64_t *weights = (const uint64_t *)c.weights + block * length * 16 * (c.kind == SHARED ? 2 : 1);
            (c.kind == SHARED ? level.shared : level.differing)(patches, n, length, weights, blocks, sums);
        }
    }
};

}  // namespace

extern "C" void minimand_convolve(const Convolution *convolution) {
    const Convolution &c = *convolution;
    const Level &level = *levels[c.level];
    const long each = c.outputs / c.groups, blocks = up(each, 16), padded = c.groups * blocks * 16;
    const Axis rows(c, 0), columns(c, 1);
    const Sums sums(c, rows, columns, padded);
    std::vector<Integers> limits, others;
    std::vector<uint16_t> flips(padded / 16, 0);
    if (c.high) {
        limits = sums.limits(c, c.thresholds, padded);
        if (c.other) others = sums.limits(c, c.thresholds_other, padded);
        for (long g = 0; g < c.groups; g++)
            for (long o = 0; o < blocks * 16; o++) {  // a negative factor flips all; beyond the outputs all is above
                const bool flipped = (o < each && c.flip && c.flip[g * each + o]) != (sums.factor < 0);
                flips[g * blocks + o / 16] |= (uint16_t)(flipped << o % 16);
            }
    }
    const long positions = c.samples * c.out[0] * c.out[1], size = tile_size(c), tiles = up(positions, size);
    const long count = up(c.outputs, 64), chunks = up(blocks, BLOCKS);
    // Where positions are too few, threads share out the words of their outputs.
    const long shares = c.groups == 1 && tiles < c.threads ? std::min(chunks, c.threads) : 1;
    const long share = up(chunks, shares) * BLOCKS;
#pragma omp parallel num_threads((int)c.threads) if (c.threads > 1)
    {
        Tile tile(c, rows, columns);
        const int32_t *offset[MOST], *limit[MOST], *limit_other[MOST];
        uint16_t masks[BLOCKS][MOST], switches[MOST];
#pragma omp for schedule(static)
        for (long task = 0; task < tiles * shares; task++) {
            const long first = task / shares * size, from = task % shares * share;
            const int n = (int)(positions - first < size ? positions - first : size);
            const long end = from + share < blocks ? from + share : blocks;
            for (long group = 0; group < c.groups; group++) {
                const uint64_t *patches = tile.gather(first, n, group);
                tile.prepare(level, patches, n);
                for (int p = 0; p < n; p++) {
                    offset[p] = sums.offsets[tile.where[p]].data();
                    if (c.high) limit[p] = limits[tile.where[p]].data();
                    if (c.other) limit_other[p] = others[tile.where[p]].data();
                }
                for (long block = from; block < end; block += BLOCKS) {
                    const int some = (int)(end - block < BLOCKS ? end - block : BLOCKS);
                    tile.multiply(level, patches, n, group * blocks + block, some);
                    const long output = group * each + block * 16;
                    for (int b = 0; b < some; b++) {
                        const int32_t *found = tile.sums + b * n * 16;
                        const long at = (group * blocks + block + b) * 16, left = each - (block + b) * 16;
                        if (c.sums) {
                            level.store(found, n, sums.factor, offset, at, left < 16 ? (int)left : 16,
                                        c.sums + first * c.outputs + output + 16 * b, c.outputs);
                            continue;
                        }
                        if (c.other)
                            for (int p = 0; p < n; p++)
                                switches[p] = bits16(c.other + (first + p) * count, count, output + 16 * b);
                        level.above(found, n, limit, limit_other, at, c.other ? switches : nullptr, masks[b]);
                        for (int p = 0; p < n; p++) masks[b][p] ^= flips[at / 16];
                    }
                    for (int p = 0; c.high && p < n; p++) {
                        uint64_t word = 0, *to = c.high + (first + p) * count + output / 64;
                        for (int b = 0; b < some; b++) word |= (uint64_t)masks[b][p] << 16 * b;
                        to[0] |= word << output % 64;
                        if (output % 64 && word >> (64 - output % 64)) to[1] |= word >> (64 - output % 64);
                    }
                }
            }
        }
    }
}

extern "C" int minimand_tables(void) { return tables_supported(); }

// Any processor; for weights of more bits torch is faster than plain loops.
#include "generic.h"

static int supported(void) { return 1; }

static void floats_above(const float *z, long stride, long rows, long n, const float *t, long across, int along,
                         uint64_t *words, long out) {
    above_loop(z, stride, rows, n, t, across, along, words, out);
}

static void integers_above(const int32_t *z, long stride, long rows, long n, const int32_t *t, long across, int along,
                           uint64_t *words, long out) {
    above_loop(z, stride, rows, n, t, across, along, words, out);
}

const Level portable_level = {supported, floats_above, integers_above, choose_loop, differing_loop,
                              nullptr,   nullptr,      expand_loop,    masks_loop,  store_loop};

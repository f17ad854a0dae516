// Any processor; for weights of more bits torch is faster than plain loops.
#include "generic.h"

static int supported(void) { return 1; }

const Level portable_level = {
    supported, above_loop<float>, above_loop<int32_t>, choose_loop, differing_loop,
    nullptr,   nullptr,           expand_loop,         masks_loop,  store_loop,
};

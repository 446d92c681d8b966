/* Coverage of the extension modules. Compiled with -fsanitize-coverage=trace-pc they call this at
   every branch; run.py has libFuzzer read the counters. */

#include <stdint.h>

enum { COUNTERS = 1 << 16 };

const int fastein_count = COUNTERS;
uint8_t fastein_counters[COUNTERS];
uintptr_t fastein_places[COUNTERS][2]; /* which libFuzzer wants to have as many of */

void __sanitizer_cov_trace_pc(void)
{
    uintptr_t place = (uintptr_t)__builtin_return_address(0);
    fastein_counters[(place ^ place >> 16) % COUNTERS]++;
}

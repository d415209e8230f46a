/* A driver from before energy counters, field values and throttle reasons. */
#define FAKE_OLD
#include "support/fake_nvml.c"

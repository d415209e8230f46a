/* Stand-ins for libnvidia-ml.so.1, built as shared libraries: fake_nvml.so and fake_nvml_old.so, which
 * lacks what old drivers lack. A test opens the same file as the meter does and so shares its state:
 *
 *     void *library = dlopen(path, RTLD_NOW);
 *     struct fake_nvml *fake = dlsym(library, "fake_nvml");
 *
 * Each GPU draws its power from the beginning of time; its counter moves every 100 ms.
 *
 * A program that opens it as its driver's library is told by the environment: FAKE_NVML_INIT is what nvmlInit
 * returns; "FAKE_NVML_READS=300 500" lets reads succeed for 300 ms, then fail for 500, and so on; a read
 * takes FAKE_NVML_BURN_US of processor time; there are FAKE_NVML_GPUS GPUs, the first with FAKE_NVML_MIG. */
#ifndef TESTS_SUPPORT_FAKE_NVML_H
#define TESTS_SUPPORT_FAKE_NVML_H

#include <stdatomic.h>

enum { FAKE_GPUS = 4 };

struct fake_nvml {
    atomic_int gpus;
    atomic_int init_code;             /* what nvmlInit returns */
    atomic_int hang_init, hang_reads; /* they do not return while this is set */
    atomic_int fail_reads;            /* the code that counter and power return */
    atomic_int burn_us;               /* processor time that a read of the counter takes */
    atomic_int frozen;                /* the counter stands still */
    atomic_int no_energy, no_instant; /* not supported */
    atomic_int pids[4], num_pids;     /* of the processes that use each of them */
    atomic_int mig[FAKE_GPUS];        /* MIG mode */
    atomic_int lost[FAKE_GPUS];       /* the handle can't be had */
    atomic_uint power_mw[FAKE_GPUS];
    atomic_uint counter_percent; /* what the counter shows of the power, 100 */
    atomic_int grace;            /* the name is a GH200's */
    atomic_ullong throttle;
    atomic_int open, reads; /* nvmlInit less nvmlShutdown; counter reads */
};

#endif

#include <errno.h>
#include <math.h>

#include "base/thread.h"
#include "base/time.h"

bool kw__cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes)) return false;
    bool done = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                pthread_cond_init(cond, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return done;
}

bool kw__cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, double until_s)
{
    if (isinf(until_s)) return pthread_cond_wait(cond, mutex) == 0;
    struct timespec until = kw__timespec(until_s);
    return pthread_cond_timedwait(cond, mutex, &until) != ETIMEDOUT;
}

/* Condition variables that wait by the monotonic clock of base/time.h, so that setting the machine's
 * clock shortens or lengthens no wait. */
#ifndef KW_BASE_THREAD_H
#define KW_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* False: the system has no resources left. */
bool kw__cond_init(pthread_cond_t *cond);

/* Waits for a signal until kw__monotonic_s() is `until_s` (INFINITY: for ever); as with any condition
 * variable it may return early. False once the time has come. */
bool kw__cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, double until_s);

#endif

/* request: what a report shows, and where it goes. */

#ifndef FAULTHANDLER_REQUEST_H
#define FAULTHANDLER_REQUEST_H

#include "out.h"
#include "platform.h"

/* Handlers read it at any moment.  The Python half writes it holding
   state_lock, which no handler ever takes, and publishes with one atomic
   store what it has completely filled in. */
static pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER;

/* What a report shows, and where it goes. */
struct request {
    struct sink sink;
    struct sink copy;           /* a second place, or SINK_NOWHERE */
    bool original;              /* the report of 1.0, not the library's */
    bool all_threads;
    bool c_stack;
    bool mixed;                 /* with the Python frames in it */
    bool details;               /* why it died, in which thread */
    size_t max_threads;
};

/* Threads to be shown: 0 means the default, as in 3.15. */
static size_t
request_max_threads(Py_ssize_t max_threads)
{
    return max_threads == 0 ? 100 : max_threads < 0 ? 1 : (size_t)max_threads;
}

/* One writer at a time, over all kinds of reports. */
static atomic_int report_door;

#endif

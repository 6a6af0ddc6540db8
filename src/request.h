/* request: what a report shows, and where it goes. */

#ifndef FAULTHANDLER_REQUEST_H
#define FAULTHANDLER_REQUEST_H

#include "out.h"
#include "platform.h"

/* Held while what handlers of fatal signals read is changed: requests, and
   which one is in use.  No handler takes it.  A request is filled in
   completely, then published with one atomic store. */
static pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER;

/* What a report shows, and where it goes.  Nobody writes it while it is
   published. */
struct request {
    struct sink sink;
    struct sink copy;           /* a second place, or SINK_NOWHERE */
    bool original;              /* the report of 1.0, not the library's */
    bool all_threads;
    bool c_stack;
    bool mixed;                 /* the C stack has the Python frames in it */
    bool details;               /* what was wrong, where, when; contexts */
    size_t max_threads;
};

/* The number of the thread that writes a report, 0 if none does.  A thread
   takes the door when it is 0, or when its holder has ended, and sets it to
   0 when it is done: report_enter() and report_leave(). */
static atomic_int report_door;

#endif

// Part of <spillway/spillway.h>: locks on the directories of stores, for several stores that share
// a directory. Every call here blocks.
#pragma once

#include <spillway/swapper/c/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_lock spillway_lock;

// Locks the directory against other jobs, and removes the swap files of a killed job.
// SPILLWAY_BUSY, with the holder's process id, if another job holds it.
SPILLWAY_API spillway_status spillway_lock_acquire(const char* directory, spillway_lock** lock);
// Unlocks the directory. SPILLWAY_IN_USE while a store uses the lock.
SPILLWAY_API spillway_status spillway_lock_release(spillway_lock* lock);

#ifdef __cplusplus
}
#endif

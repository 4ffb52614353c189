// The C interface (C11 and later, and every language that calls C, such as Python by ctypes).
//
// A function that can fail returns a spillway_status; spillway_last_error() has the details. No
// call ends the process, prints, or throws. Misuse is a status too (SPILLWAY_MISUSE,
// SPILLWAY_BAD_HANDLE, SPILLWAY_IN_USE): a handle is an entry of a table, never a pointer, so NULL,
// a wrong kind and a destroyed handle are detected (until an entry was used 2^36 times). Not
// detected: memory that is too small or freed too early, a wrong `size`, and threads cancelled
// inside a call.
//
// Ownership: the creator destroys. Destroying an object that others depend on (an engine with a
// pool) returns SPILLWAY_IN_USE and does nothing. Options are zeroed structs with `size` set to
// their sizeof: zero is every default, and later versions append fields and read older structs.
// Strings are UTF-8 and are copied. Threads: any thread may make any call. A child made by fork()
// cannot use its parent's handles: each call returns SPILLWAY_BAD_HANDLE at once. It may create
// objects of its own.
#pragma once

#include <spillway/swapper/c/engine.h>
#include <spillway/swapper/c/error.h>
#include <spillway/swapper/c/file.h>
#include <spillway/swapper/c/lock.h>
#include <spillway/swapper/c/pool.h>
#include <spillway/swapper/c/request.h>
#include <spillway/swapper/c/saved.h>
#include <spillway/swapper/c/schedule.h>
#include <spillway/swapper/c/store.h>
#include <spillway/swapper/c/stream.h>
#include <spillway/swapper/c/striped.h>
#include <spillway/swapper/c/transfer.h>

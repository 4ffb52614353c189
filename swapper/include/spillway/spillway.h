// Spillway from C (C11 and later, and whatever can call C, such as Python's ctypes).
//
// Every function that can fail returns a spillway_status; spillway_last_error() tells the rest. No
// call ends the process, prints, or lets an exception out, whatever it is given: what a caller does
// wrong is a status too (SPILLWAY_MISUSE, SPILLWAY_BAD_HANDLE, SPILLWAY_IN_USE).
//
// Handles are numbers in disguise, looked up in a table and never followed: NULL, a handle of
// another kind, or one that was destroyed is found out (until one place of the table was used 2^36
// times). Not found out: memory of the caller's that is smaller than was said or goes too early,
// options that are not what their `size` says, and threads cancelled inside a call.
//
// Ownership: whoever creates destroys. An object that others are made from (an engine with a pool)
// is not destroyed before them: SPILLWAY_IN_USE, and nothing has happened. Options are structs to
// be zeroed but for `size`, which is sizeof the struct: zero is every field's default, and later
// versions add fields at the end. Strings are UTF-8 and copied. Threads: all calls, any thread.
#pragma once

#include <spillway/swapper/c/engine.h>
#include <spillway/swapper/c/error.h>
#include <spillway/swapper/c/file.h>
#include <spillway/swapper/c/pool.h>
#include <spillway/swapper/c/request.h>
#include <spillway/swapper/c/store.h>
#include <spillway/swapper/c/stream.h>

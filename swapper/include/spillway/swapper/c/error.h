// Part of <spillway/spillway.h>: the outcome of a call, and the version of the library.
#pragma once

#include <spillway/version.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The outcome of a call. Numbers keep their meaning in later versions, which may add some.
typedef enum spillway_status {
  SPILLWAY_OK = 0,
  // Failures of the environment.
  SPILLWAY_IO = 1,              // the device or the kernel failed the operation
  SPILLWAY_NO_SPACE = 2,        // the data does not fit
  SPILLWAY_NOT_FOUND = 3,       // the path does not exist
  SPILLWAY_PERMISSION = 4,      // access denied, or read-only
  SPILLWAY_SHORT_TRANSFER = 5,  // the file is shorter than expected
  SPILLWAY_DEADLINE = 6,        // the request missed its deadline
  SPILLWAY_CANCELLED = 7,       // cancelled by the caller
  SPILLWAY_CORRUPT = 8,         // the bytes read are not the bytes that were written
  SPILLWAY_BUSY = 9,            // another process or object holds the file or directory
  SPILLWAY_NO_MEMORY = 10,      // it exceeds a limit or the machine's memory
  SPILLWAY_UNSUPPORTED = 11,    // this machine, kernel, filesystem or library cannot do it
  SPILLWAY_INVALID = 12,        // the input (option, file) is wrong
  // Mistakes of the caller.
  SPILLWAY_MISUSE = 13,      // a bad argument: NULL, no size, more than fits
  SPILLWAY_BAD_HANDLE = 14,  // NULL, destroyed, waited for, of another kind, or a parent process's
  SPILLWAY_IN_USE = 15,      // a request or another object still needs the object
  // Neither.
  SPILLWAY_WAIT_TIMEOUT = 16,  // not yet: the object is unchanged; wait again
  SPILLWAY_INTERNAL = 17       // a defect of this library
} spillway_status;

// The last failed call of this thread.
typedef struct spillway_error {
  spillway_status status;
  int errno_value;        // 0 when the kernel reported none
  uint64_t offset;        // bytes from the start of the file
  uint64_t wanted;        // bytes requested; 0 = no transfer
  uint64_t got;           // bytes moved before the failure
  const char* operation;  // "read", "open", ...; never NULL, nor are the next three
  const char* path;       // "" if no file is involved
  const char* detail;     // the expectation, and a remedy
  const char* message;    // all of it as one line for a user
} spillway_error;

// Returns the last failure of this thread. Never NULL. Valid until the thread's next failed call.
SPILLWAY_API const spillway_error* spillway_last_error(void);

// Returns the name of a status, such as "SPILLWAY_NO_SPACE", or "unknown status".
SPILLWAY_API const char* spillway_status_name(spillway_status status);

// Returns the library's SPILLWAY_VERSION, for a comparison with the header's macro.
SPILLWAY_API int spillway_version(void);
// Returns the version as text: "0.1.0".
SPILLWAY_API const char* spillway_version_string(void);

// Receives one line, valid during the call. Any thread may call it, one of the library's too: it
// must neither block nor call the object. `warning`: 0 if all is well.
typedef void (*spillway_log)(void* context, int warning, const char* line);

// Whether to use an optional facility.
typedef enum spillway_policy {
  SPILLWAY_AUTO = 0,     // try
  SPILLWAY_OFF = 1,      // do not try
  SPILLWAY_REQUIRED = 2  // fail without it
} spillway_policy;

#ifdef __cplusplus
}
#endif

// Of <spillway/spillway.h>: how a call ended, and the version of the library.
#pragma once

#include <spillway/version.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// How a call ended. Numbers keep their meaning in later versions, which may add some.
typedef enum spillway_status {
  SPILLWAY_OK = 0,
  // What the world did.
  SPILLWAY_IO = 1,              // the device or the kernel failed the operation
  SPILLWAY_NO_SPACE = 2,        // what was to be written does not fit
  SPILLWAY_NOT_FOUND = 3,       // the path does not exist
  SPILLWAY_PERMISSION = 4,      // access denied, or read-only
  SPILLWAY_SHORT_TRANSFER = 5,  // the file ended before the bytes that were asked for
  SPILLWAY_DEADLINE = 6,        // the request's deadline came first
  SPILLWAY_CANCELLED = 7,       // given up by the caller
  SPILLWAY_CORRUPT = 8,         // the bytes read are not the bytes that were written
  SPILLWAY_BUSY = 9,            // somebody else has the file or directory
  SPILLWAY_NO_MEMORY = 10,      // a limit, or the machine, cannot hold it
  SPILLWAY_UNSUPPORTED = 11,    // this machine, kernel, filesystem or library cannot do it
  SPILLWAY_INVALID = 12,        // the input (option, file) is wrong
  // What the caller did.
  SPILLWAY_MISUSE = 13,      // an argument makes no sense: NULL, no size, more than fits
  SPILLWAY_BAD_HANDLE = 14,  // NULL, destroyed, waited for already, or of another kind
  SPILLWAY_IN_USE = 15,      // something under way or made from it needs the object
  // Neither.
  SPILLWAY_WAIT_TIMEOUT = 16,  // not yet: the object is as it was, and may be waited for again
  SPILLWAY_INTERNAL = 17       // a defect of this library
} spillway_status;

// The last call of this thread that did not return SPILLWAY_OK.
typedef struct spillway_error {
  spillway_status status;
  int errno_value;        // 0 when the kernel reported none
  uint64_t offset;        // bytes from the start of the file
  uint64_t wanted;        // bytes asked for; 0 = no transfer
  uint64_t got;           // bytes moved before the failure
  const char* operation;  // what was attempted; never NULL, as the next two
  const char* path;       // "" when no file is involved
  const char* detail;     // what was expected, what to do about it
  const char* message;    // all of it as one line for a user
} spillway_error;

// Never NULL. Valid until the next call of this thread that fails.
SPILLWAY_API const spillway_error* spillway_last_error(void);

// "SPILLWAY_NO_SPACE"; "unknown status" for what is none.
SPILLWAY_API const char* spillway_status_name(spillway_status status);

// SPILLWAY_VERSION as the library was built: to be compared with the macro of the header.
SPILLWAY_API int spillway_version(void);
// "0.1.0".
SPILLWAY_API const char* spillway_version_string(void);

// Called with one line, valid during the call, by any thread, also by one of the library's: it must
// neither block nor call the object. `warning`: 0 when all is as it should be.
typedef void (*spillway_log)(void* context, int warning, const char* line);

// What an option may ask for.
typedef enum spillway_policy {
  SPILLWAY_AUTO = 0,     // where it can be had
  SPILLWAY_OFF = 1,      // never
  SPILLWAY_REQUIRED = 2  // or the call fails
} spillway_policy;

#ifdef __cplusplus
}
#endif

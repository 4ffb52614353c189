// The failures of the C interface: a status, and its details for spillway_last_error().
#pragma once

#include <spillway/aio/error.h>
#include <spillway/spillway.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace spillway::c {

// Record the failure for this thread and return its status.
spillway_status failed(const Error& error);
spillway_status failed(spillway_status status, const char* operation, const std::string& detail);
// As above, without heap memory.
spillway_status out_of_memory(const char* operation) noexcept;
spillway_status defect(const char* operation, const char* what) noexcept;

// Runs `call()` and turns an exception into a status. Nothing of ours throws on purpose: the
// standard library does when the heap is exhausted.
template <typename Call>
spillway_status guarded(const char* operation, Call call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return out_of_memory(operation);
  } catch (const std::length_error&) {
    return out_of_memory(operation);
  } catch (const std::exception& exception) {
    return defect(operation, exception.what());
  } catch (...) {
    return defect(operation, "an unknown exception");
  }
}

}  // namespace spillway::c

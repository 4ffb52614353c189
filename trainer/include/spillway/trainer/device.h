// The names of devices that units can run on: "cpu", "cuda", "cuda:N".
//
// Any thread may call.
#pragma once

#include <c10/core/Device.h>
#include <spillway/aio/error.h>

#include <cstdint>
#include <string_view>

namespace spillway::trainer {

// Checks that `name` is a device's. The error (kInvalid) says what is wrong and names the nearest
// right one.
Result<void> check_device_name(std::string_view name);
// Returns the device of that name and makes it the calling thread's current one. A name without a
// number means the device of this rank: `local_rank`, as Communicator::local_rank() says. Error
// (kInvalid): the name is none, or this build or machine lacks the device.
Result<at::Device> open_device(std::string_view name, std::uint32_t local_rank);

}  // namespace spillway::trainer

// What a forked child gets from an Engine that its parent made: an error at once. No lock of the
// parent's objects is taken, and none of their memory is given back.
#pragma once

#include <spillway/aio/owner_process.h>

#include "request.h"

namespace spillway::aio {

// True if the request's Engine was made in this process: its Ticket works.
bool usable(const PendingRequest& request) noexcept;

// Makes a request that has ended with the error of `owner` and has its Buffer back, and runs the
// callback, if there is one. Returns nothing if `wants_ticket` is false.
PendingRequest* refuse_in_child(const OwnerProcess& owner, Direction direction,
                                const Engine::Request& wanted, Buffer buffer,
                                Engine::Callback callback, bool wants_ticket);
// Ends the Ticket of a request that is not usable. Of a request of the parent the Completion has no
// Buffer: the parent's engine has it.
Completion completion_in_child(PendingRequest* request);
void drop_in_child(PendingRequest* request) noexcept;

}  // namespace spillway::aio

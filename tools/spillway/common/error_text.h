// error_text: what a user reads on the terminal when something failed.
#pragma once

#include <spillway/aio/error.h>
#include <string>

namespace spillway::tools {

// Error::message() on one line; a configuration's several problems follow on a line each instead
// of being run together.
std::string error_text(const Error& error);

}  // namespace spillway::tools

#include <spillway/version.h>

namespace spillway {

int version() noexcept { return SPILLWAY_VERSION; }
const char* version_string() noexcept { return SPILLWAY_VERSION_STRING; }

}  // namespace spillway

// MISUSE fails with: declared with attribute .nodiscard
#include <spillway/aio/file.h>

using namespace spillway;

#ifdef MISUSE
void finish(aio::File& file) { file.sync(); }
#else
Result<void> finish(aio::File& file) { return file.sync(); }
#endif

#include "test_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

namespace spillway::aio_bench {
namespace {

// Between the creation of the file and its unlinking no Ctrl-C may end the process.
class SignalsHeldBack {
 public:
  SignalsHeldBack() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before_);
  }
  ~SignalsHeldBack() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeldBack(const SignalsHeldBack&) = delete;
  SignalsHeldBack& operator=(const SignalsHeldBack&) = delete;

 private:
  sigset_t before_;
};

Result<aio::File> create_unnamed(const std::filesystem::path& path) {
  const SignalsHeldBack held;
  auto file = aio::File::create(path, {.size_bytes = 0, .direct = aio::Direct::kRequired});
  if (!file) return file;
  if (auto removed = file->remove(); !removed) return tl::unexpected(removed.error());
  return file;
}

Result<void> allocate(const aio::File& file, std::uint64_t size_bytes) {
  // Where the filesystem cannot allocate, the writes of the first pass do it.
  if (fallocate(file.fd(), 0, 0, static_cast<off_t>(size_bytes)) == 0 || errno == EOPNOTSUPP) {
    return {};
  }
  return errno_error("allocate the test file", file.path(), errno,
                     std::to_string(size_bytes) + " bytes");
}

}  // namespace

Result<TestFile> TestFile::create(const std::vector<std::filesystem::path>& directories,
                                  std::uint64_t size_bytes, std::uint64_t stripe_bytes) {
  TestFile test;
  const std::uint64_t row_bytes = stripe_bytes * directories.size();
  const std::uint64_t rows = (size_bytes + row_bytes - 1) / row_bytes;
  test.stripe_bytes_ = stripe_bytes;
  test.size_bytes_ = directories.size() == 1 ? size_bytes : rows * row_bytes;
  test.page_passes_.resize(test.size_bytes_ / Pattern::kPageBytes);
  for (const auto& directory : directories) {
    auto file = create_unnamed(directory / (".aio_bench." + std::to_string(getpid())));
    if (!file) return tl::unexpected(file.error());
    const std::uint64_t share = directories.size() == 1 ? size_bytes : rows * stripe_bytes;
    if (auto done = allocate(*file, share); !done) return tl::unexpected(done.error());
    test.files_.push_back(std::move(*file));
  }
  return test;
}

TestFile::Place TestFile::place_of(std::uint64_t offset) const {
  const std::uint64_t stripe = offset / stripe_bytes_;
  const std::uint64_t row = stripe / files_.size();
  return {&files_[stripe % files_.size()], row * stripe_bytes_ + offset % stripe_bytes_};
}

Result<void> TestFile::cut_to(std::uint64_t size_bytes) {
  size_bytes_ = size_bytes;
  page_passes_.resize(size_bytes / Pattern::kPageBytes);
  const std::uint64_t row_bytes = stripe_bytes_ * files_.size();
  for (const aio::File& file : files_) {
    const std::uint64_t longest = (size_bytes + row_bytes - 1) / row_bytes * stripe_bytes_;
    const std::uint64_t kept = files_.size() == 1 ? size_bytes : longest;
    if (ftruncate(file.fd(), static_cast<off_t>(kept)) != 0) {
      return errno_error("cut the test file", file.path(), errno);
    }
  }
  return {};
}

Result<void> TestFile::sync() {
  for (aio::File& file : files_) {
    if (auto done = file.sync(); !done) return done;
  }
  return {};
}

std::span<std::uint32_t> TestFile::passes_of(std::uint64_t offset, std::uint64_t size_bytes) {
  return std::span(page_passes_)
      .subspan(offset / Pattern::kPageBytes, size_bytes / Pattern::kPageBytes);
}

}  // namespace spillway::aio_bench

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
  if (size_bytes == 0) return {};  // a drive so slow that it gets no stripe
  // Where the filesystem cannot allocate, the writes of the first pass do it.
  if (fallocate(file.fd(), 0, 0, static_cast<off_t>(size_bytes)) == 0 || errno == EOPNOTSUPP) {
    return {};
  }
  return errno_error("allocate the test file", file.path(), errno,
                     std::to_string(size_bytes) + " bytes");
}

}  // namespace

Result<TestFile> TestFile::create(const std::vector<std::filesystem::path>& directories,
                                  std::uint64_t size_bytes, std::uint32_t stripe_bytes,
                                  const std::vector<double>& speeds) {
  auto stripes = aio::StripeMap::create(stripe_bytes, aio::StripeMap::weights_of(speeds));
  if (!stripes) return tl::unexpected(stripes.error());
  const std::uint64_t whole = (size_bytes + stripe_bytes - 1) / stripe_bytes * stripe_bytes;
  TestFile test(std::move(*stripes), directories.size() == 1 ? size_bytes : whole);
  for (std::size_t i = 0; i < directories.size(); ++i) {
    auto file = create_unnamed(directories[i] / (".aio_bench." + std::to_string(getpid())));
    if (!file) return tl::unexpected(file.error());
    auto done = allocate(*file, test.bytes_of_file(i));
    if (!done) return tl::unexpected(done.error());
    test.files_.push_back(std::move(*file));
  }
  return test;
}

std::uint64_t TestFile::bytes_of_file(std::size_t index) const {
  return stripes_.member_count() == 1 ? size_bytes_ : stripes_.member_bytes(index, size_bytes_);
}

TestFile::Place TestFile::place_of(std::uint64_t offset) const {
  const auto extent = stripes_.extent_at(offset, 1);
  return {&files_[extent.member], extent.offset};
}

Result<void> TestFile::cut_to(std::uint64_t size_bytes) {
  size_bytes_ = size_bytes;
  page_passes_.resize(size_bytes / Pattern::kPageBytes);
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (ftruncate(files_[i].fd(), static_cast<off_t>(bytes_of_file(i))) != 0) {
      return errno_error("cut the test file", files_[i].path(), errno);
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

// CheckpointFiles that fail at the n-th call, and that can drop all that was not synced, as a crash
// after that call would.
#pragma once

#include "trainer/checkpoint/files.h"

#include <cerrno>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace spillway::trainer::testing {

class FaultyFiles final : public CheckpointFiles {
 public:
  FaultyFiles() : real_(make_checkpoint_files()) {}

  std::uint64_t fail_at = ~std::uint64_t{0};  // this call ...
  bool once = false;                          // ... and, unless once, all after it
  int error = EIO;
  bool links = true;    // as on one filesystem
  bool clones = false;  // as on one that can share the room of files; here they are copies
  std::uint64_t calls = 0;
  std::string failed_call;  // "sync", ...

  // Changes the files to what a crash now would leave: without bytes written since the last sync of
  // the file, without names created since the last sync of the directory. An unsynced rename may
  // have reached the disk, even before the directory's files did, or not.
  void crash(bool renames_survive) {
    for (auto& [from, to] : unsynced_renames_) {
      if (!renames_survive) {
        std::filesystem::rename(to, from);
        continue;
      }
      std::map<std::filesystem::path, std::uint64_t> moved;
      for (const auto& [path, bytes] : unsynced_) {
        moved[path.parent_path() == from ? to / path.filename() : path] = bytes;
      }
      unsynced_ = moved;
      for (auto& path : unsynced_names_) {
        if (path.parent_path() == from) path = to / path.filename();
      }
    }
    for (const auto& [path, bytes] : unsynced_) {
      if (!std::filesystem::exists(path)) continue;
      // Only the link loses its bytes here: in a crash its store would lose them as well.
      if (linked_.contains(path.filename())) std::filesystem::remove(path);
      if (linked_.contains(path.filename())) std::ofstream(path).flush();
      std::filesystem::resize_file(path, bytes);
    }
    for (const auto& path : unsynced_names_) std::filesystem::remove_all(path);
  }

  Result<void> make_directory(const std::filesystem::path& path) override {
    if (auto allowed = next("make_directory"); !allowed) return allowed;
    unsynced_names_.push_back(path);
    return real_->make_directory(path);
  }
  Result<std::unique_ptr<NewFile>> create(const std::filesystem::path& path) override {
    if (auto allowed = next("create"); !allowed) return tl::unexpected(allowed.error());
    auto file = real_->create(path);
    if (!file) return file;
    unsynced_names_.push_back(path);
    unsynced_[path] = 0;
    return std::make_unique<File>(*this, path, std::move(*file));
  }
  Result<void> rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    if (auto allowed = next("rename"); !allowed) return allowed;
    auto renamed = real_->rename(from, to);
    if (renamed) unsynced_renames_.emplace_back(from, to);
    return renamed;
  }
  Result<void> link(const swapper::SealedSegment& segment,
                    const std::filesystem::path& to) override {
    if (!links) return make_error(ErrorKind::kUnsupported, "link", to.string(), "not here");
    if (auto allowed = next("link"); !allowed) return allowed;
    unsynced_names_.push_back(to);
    unsynced_[to] = 0;
    linked_.insert(to.filename());
    names_of_[segment.path()] = to;
    return real_->link(segment, to);
  }
  Result<void> clone(const swapper::SealedSegment& segment,
                     const std::filesystem::path& to) override {
    if (!clones) return make_error(ErrorKind::kUnsupported, "clone", to.string(), "not here");
    if (auto allowed = next("clone"); !allowed) return allowed;
    unsynced_names_.push_back(to);  // its bytes are durable, its name is not yet
    std::error_code failed;
    // Training may have removed its name already.
    std::filesystem::copy_file("/proc/self/fd/" + std::to_string(segment.fd()), to, failed);
    if (failed) return errno_error("clone", to.string(), failed.value());
    return {};
  }
  Result<void> sync(swapper::SealedSegment& segment) override {
    if (auto allowed = next("sync"); !allowed) return allowed;
    unsynced_.erase(names_of_[segment.path()]);
    return real_->sync(segment);
  }
  Result<void> sync_directory(const std::filesystem::path& path) override {
    if (auto allowed = next("sync_directory"); !allowed) return allowed;
    std::erase_if(unsynced_names_, [&](const auto& name) { return name.parent_path() == path; });
    std::erase_if(unsynced_renames_, [&](const auto& r) { return r.second.parent_path() == path; });
    return real_->sync_directory(path);
  }

 private:
  class File final : public NewFile {
   public:
    File(FaultyFiles& all, std::filesystem::path path, std::unique_ptr<NewFile> real)
        : all_(all), path_(std::move(path)), real_(std::move(real)) {}
    Result<void> write(std::span<const std::byte> bytes) override {
      if (auto allowed = all_.next("write"); !allowed) return allowed;
      size_ += bytes.size();
      return real_->write(bytes);
    }
    Result<void> sync() override {
      if (auto allowed = all_.next("sync"); !allowed) return allowed;
      all_.unsynced_[path_] = size_;
      return real_->sync();
    }
    Result<void> close() override {
      if (auto allowed = all_.next("close"); !allowed) return allowed;
      return real_->close();
    }

   private:
    FaultyFiles& all_;
    std::filesystem::path path_;
    std::unique_ptr<NewFile> real_;
    std::uint64_t size_ = 0;
  };

  Result<void> next(const char* call) {
    const std::uint64_t number = calls++;
    if (number < fail_at || (once && number > fail_at)) return {};
    if (failed_call.empty()) failed_call = call;
    return errno_error(call, "simulated", error);
  }

  std::unique_ptr<CheckpointFiles> real_;
  std::map<std::filesystem::path, std::uint64_t> unsynced_;  // bytes that were synced
  std::set<std::string> linked_;
  std::map<std::string, std::filesystem::path> names_of_;  // of segments, in the checkpoint
  std::vector<std::filesystem::path> unsynced_names_;
  std::vector<std::pair<std::filesystem::path, std::filesystem::path>> unsynced_renames_;
};

}  // namespace spillway::trainer::testing

// StripedFile: one logical file of a fixed size over the drives of several directories.
//
// Each directory holds one member file of the same name: a manifest, then its stripes (StripeMap).
// A request is cut into one part per run of stripes on a member. The parts run on the Engines
// concurrently, in file order, at most kMaxParts of all requests together. Drives get stripes in
// proportion to their speed, measured at creation or given; the manifests record the shares.
// Errors name the failed member; `open` refuses a missing, foreign, truncated or misplaced one.
// As with an Engine, a write changes its bytes alone.
//
// Threads, forked children and ownership: as Engine. The Engines must outlive the StripedFile;
// dropping it cancels its requests, which then complete in the Engines. No heap memory per request
// once the largest number of concurrent requests was reached.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/export.h>
#include <spillway/aio/stripe_map.h>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace spillway::aio {

struct StripedLocation {
  std::vector<std::filesystem::path> directories;  // 1 to 64 different ones; the order matters
  std::string name;                                // of the member file in each
};

struct StripedCreateOptions {
  std::uint64_t size_bytes = 0;  // of the logical file; all of it is preallocated
  std::uint32_t stripe_bytes = 1 << 20;
  // The speed of each directory, in any unit: {1, 3} gives the second one three stripes of four.
  // All 1: round robin. Empty: measured by measure_path_speed(), about a second per directory.
  std::vector<double> speeds = {};
  Direct direct = Direct::kAuto;
};

struct StripedRequest;
class StripedCore;

// StripedTicket: a handle on one request, like Ticket. It may outlive the StripedFile. Dropping it
// cancels the request; its Buffer is released once no device can write into it.
class [[nodiscard]] SPILLWAY_API StripedTicket {
 public:
  StripedTicket() = default;
  StripedTicket(StripedTicket&&) noexcept;
  StripedTicket& operator=(StripedTicket&&) noexcept;
  ~StripedTicket();

  bool valid() const noexcept { return request_ != nullptr; }
  // True if `wait` would return at once. Does not block.
  bool done() const noexcept;
  // Blocks until the request is complete; consumes the ticket.
  // REQUIRES: `valid()`; not called on an engine thread.
  Completion wait();
  // Blocks until the request is complete, at most for `timeout`. True if it is complete; the ticket
  // stays valid. REQUIRES: as `wait`.
  bool wait_for(std::chrono::nanoseconds timeout);
  // As `wait`, but cancels at the deadline and returns kDeadline with an empty Buffer.
  Completion wait_until(std::chrono::steady_clock::time_point deadline);
  // Cancels the request: parts that have not started are dropped, the kernel is asked to cancel
  // the others. The request completes with kCancelled, or normally if it was too late.
  // REQUIRES: `valid()`.
  void cancel();

 private:
  friend class StripedFile;
  explicit StripedTicket(StripedRequest* request) noexcept : request_(request) {}
  StripedRequest* request_ = nullptr;
};

class SPILLWAY_API StripedFile {
 public:
  static constexpr std::size_t kMaxParts = 512;  // in flight on one StripedFile

  // Creates the member files. `engines`: one for all directories, or one for each (then a hanging
  // drive delays no other, and each can be on the drive's NUMA node). Blocks. kNoSpace, with the
  // arithmetic, before a byte is written; kBusy if a member file exists; kInvalid for bad options.
  // After a failure no file is left.
  static Result<StripedFile> create(std::vector<Engine*> engines, const StripedLocation& location,
                                    const StripedCreateOptions& options);
  // Opens existing members. Blocks. kNotFound, kInvalid or kCorrupt with the path of the bad
  // member and the reason; a size that no file can have is kInvalid.
  static Result<StripedFile> open(std::vector<Engine*> engines, const StripedLocation& location,
                                  const OpenOptions& options = {});

  StripedFile(StripedFile&&) noexcept = default;
  StripedFile& operator=(StripedFile&&) noexcept;
  // REQUIRES: not called on an engine thread.
  ~StripedFile();

  std::uint64_t size_bytes() const noexcept;
  const StripeMap& map() const noexcept;

  // As Engine::Request. A request past `size_bytes()` fails with kInvalid and moves nothing.
  struct Request {
    std::uint64_t offset = 0;       // bytes from the start of the logical file
    std::size_t size_bytes = 0;     // any length; 0 completes at once
    std::size_t buffer_offset = 0;  // bytes from the start of the Buffer
    Priority priority = Priority::kNormal;
    // The deadline of each part, once its Engine has it.
    std::chrono::steady_clock::time_point deadline = Engine::kNoDeadline;
  };
  // Moves bytes into or out of `buffer`. An Error has the member's path and, in its detail, the
  // offset in it; `offset`, `wanted` and `got` are the logical request's: its first `got` bytes
  // were moved.
  // REQUIRES: buffer_offset + size_bytes <= buffer.capacity(); a writable file for a write.
  StripedTicket read(const Request& request, Buffer buffer);
  StripedTicket write(const Request& request, Buffer buffer);
  // As above, with a callback instead of a StripedTicket.
  void read(const Request& request, Buffer buffer, Engine::Callback callback);
  void write(const Request& request, Buffer buffer, Engine::Callback callback);
  // As Engine::start: with a callback, and a StripedTicket for `cancel` only.
  StripedTicket start(Direction direction, const Request& request, Buffer buffer,
                      Engine::Callback callback);

  // Calls fdatasync on every member. Blocks. After a failure the contents are unknown.
  Result<void> sync();
  // Unlinks every member, even if others fail; returns the first failure.
  Result<void> remove();

  struct MemberStats {
    std::string path;
    std::uint32_t weight = 0;        // its share of the stripes, out of the sum of all weights
    std::uint64_t stored_bytes = 0;  // space for its stripes
    std::uint64_t read_bytes = 0;    // through this StripedFile
    std::uint64_t written_bytes = 0;
  };
  std::vector<MemberStats> stats() const;

 private:
  explicit StripedFile(std::shared_ptr<StripedCore> core);
  // Shared with requests in flight, which may outlive the StripedFile.
  std::shared_ptr<StripedCore> core_;
};

}  // namespace spillway::aio

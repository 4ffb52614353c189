// StripedFile: one logical file of a fixed size over several directories, one a drive, in user
// space.
//
// Each directory holds one member file of the same name: a manifest, then its stripes as StripeMap
// deals them. A request is cut into parts, one for each run of stripes on one member, and the parts
// run on Engines at the same time, in the order of the file, at most kMaxParts of all requests
// together. Drives of uneven speed get stripes in proportion (measured at creation, or given), and
// the manifests hold the shares, so that a file opened again is read as it was written.
//
// Failures name the member that failed. A missing, foreign, cut off or misplaced member is refused
// by open(). Two writes at one time must not share a block of 4096 bytes, as with an Engine.
//
// Threads and ownership: as Engine: any thread; a request consumes a Buffer and completes exactly
// once with it; callbacks run on an engine thread and must not block. The Engines must outlive the
// StripedFile; dropping it cancels what is in flight, which then completes in the Engines. No heap
// memory is taken per request once as many were pending at a time as ever will be.
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
  std::vector<std::filesystem::path> directories;  // 1 to 64 different ones; their order counts
  std::string name;                                // of the member file in each
};

struct StripedCreateOptions {
  std::uint64_t size_bytes = 0;  // of the logical file; all of it is preallocated
  std::uint32_t stripe_bytes = 1 << 20;
  // Of each directory, in any unit: {1, 3} gives the second three stripes of four. Empty: measured
  // by measure_path_speed(), which takes about a second a directory; all 1: plain round robin.
  std::vector<double> speeds = {};
  Direct direct = Direct::kAuto;
};

struct StripedRequest;
class StripedCore;

// Handle on one request, as Ticket. May outlive the StripedFile. Dropping it abandons the request:
// it is cancelled, and its Buffer is released once no device writes there any more.
class [[nodiscard]] SPILLWAY_API StripedTicket {
 public:
  StripedTicket() = default;
  StripedTicket(StripedTicket&&) noexcept;
  StripedTicket& operator=(StripedTicket&&) noexcept;
  ~StripedTicket();

  bool valid() const noexcept { return request_ != nullptr; }
  // Whether wait() would return at once. Does not block.
  bool done() const noexcept;
  // Blocks until the request is complete; consumes the ticket. REQUIRES: valid(), no engine thread.
  Completion wait();
  // As wait, but gives up at the deadline with kDeadline, cancels, and leaves the Buffer behind.
  Completion wait_until(std::chrono::steady_clock::time_point deadline);
  // Parts that have not begun never do, the kernel is asked to give up the others, and the request
  // completes with kCancelled, or as if nothing had been said where that came too late.
  // REQUIRES: valid().
  void cancel();

 private:
  friend class StripedFile;
  explicit StripedTicket(StripedRequest* request) noexcept : request_(request) {}
  StripedRequest* request_ = nullptr;
};

class SPILLWAY_API StripedFile {
 public:
  static constexpr std::size_t kMaxParts = 512;  // in flight on one StripedFile

  // `engines`: one for all directories, or one for each (then a drive that hangs holds up no other,
  // and each can have the drive's NUMA node). Both block.
  //
  // create: kNoSpace, with the arithmetic, before a byte is written; kBusy when a member's file
  // exists; kInvalid for options that make no sense. On failure nothing is left behind.
  static Result<StripedFile> create(std::vector<Engine*> engines, const StripedLocation& location,
                                    const StripedCreateOptions& options);
  // open: kNotFound, kInvalid or kCorrupt with the path of the member at fault and why.
  static Result<StripedFile> open(std::vector<Engine*> engines, const StripedLocation& location,
                                  const OpenOptions& options = {});

  StripedFile(StripedFile&&) noexcept = default;
  StripedFile& operator=(StripedFile&&) noexcept;
  // REQUIRES: not on an engine thread.
  ~StripedFile();

  std::uint64_t size_bytes() const noexcept;
  const StripeMap& map() const noexcept;

  // As Engine::Request. One that ends past size_bytes() fails with kInvalid and moves nothing.
  struct Request {
    std::uint64_t offset = 0;       // bytes from the start of the logical file
    std::size_t size_bytes = 0;     // any length; 0 completes at once
    std::size_t buffer_offset = 0;  // bytes from the start of the Buffer
    Priority priority = Priority::kNormal;
    // Of each of its parts, from the moment that it is with its Engine.
    std::chrono::steady_clock::time_point deadline = Engine::kNoDeadline;
  };
  // An Error has the path of the member and, in its detail, the offset there; offset, wanted and
  // got are the logical request's: the first `got` bytes have been moved.
  // REQUIRES: buffer_offset + size_bytes <= buffer.capacity(); a writable file for a write.
  StripedTicket read(const Request& request, Buffer buffer);
  StripedTicket write(const Request& request, Buffer buffer);
  // The same with a callback instead of a StripedTicket.
  void read(const Request& request, Buffer buffer, Engine::Callback callback);
  void write(const Request& request, Buffer buffer, Engine::Callback callback);

  // fdatasync of every member. Blocks. After a failure the contents are unknown.
  Result<void> sync();
  // Unlinks every member, whatever becomes of the others; the first failure is reported.
  Result<void> remove();

  struct MemberStats {
    std::string path;
    std::uint32_t weight = 0;        // its share of the stripes, of the sum of all
    std::uint64_t stored_bytes = 0;  // room for its stripes
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

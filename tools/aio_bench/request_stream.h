// RequestStream: requests over the test file. It keeps them in flight in the engine, finishes the
// oldest first, and checks the bytes of reads.
//
// Threads: one. The destructor waits for the requests. Ownership: the engine outlives it.
#pragma once

#include <spillway/aio/engine.h>
#include <cstdint>
#include <deque>
#include <vector>

#include "buffers.h"
#include "test_file.h"

namespace spillway::aio_bench {

enum class Check {
  kNone,    // after fio has written into the file
  kStamps,  // one word a page
  kAll,     // every byte
};

class RequestStream {
 public:
  RequestStream(TestFile& test, const Pattern& pattern, const Buffers& buffers, aio::Engine& engine,
                const RequestPlan& plan, Check check);
  ~RequestStream();
  RequestStream(const RequestStream&) = delete;
  RequestStream& operator=(const RequestStream&) = delete;

  bool full() const { return pending_.size() == plan_.count; }
  bool idle() const { return pending_.empty(); }

  // Starts the next request at `cursor` and advances it, round and round over the file. Skips bytes
  // of another pending request. REQUIRES: !full().
  void read(std::uint64_t& cursor) { submit(aio::Direction::kRead, cursor, 0); }
  void write(std::uint64_t& cursor, std::uint32_t pass) {
    submit(aio::Direction::kWrite, cursor, pass);
  }
  // Waits for the oldest. kCorrupt if the bytes read are not those written. REQUIRES: !idle().
  Result<void> finish_oldest();
  Result<void> finish_all();

 private:
  struct Pending {
    aio::Ticket ticket;
    aio::Direction direction;
    std::uint64_t offset = 0;
    std::uint64_t size_bytes = 0;
    std::size_t buffer = 0;  // of the sources or of the sinks
  };

  void submit(aio::Direction direction, std::uint64_t& cursor, std::uint32_t pass);
  bool is_pending(std::uint64_t offset, std::uint64_t size_bytes) const;
  std::uint64_t size_at(std::uint64_t offset) const;

  TestFile& test_;
  const Pattern& pattern_;
  const Buffers& buffers_;
  aio::Engine& engine_;
  const RequestPlan plan_;
  const Check check_;
  std::deque<Pending> pending_;
  std::vector<std::size_t> free_sources_, free_sinks_;
};

}  // namespace spillway::aio_bench

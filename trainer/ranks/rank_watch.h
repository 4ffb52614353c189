// RankWatch: finds the rank that made an exchange fail.
//
// c10d reports a closed connection or a timeout, never the rank behind it. So each rank writes a
// line to the store twice a second: that it lives, how many exchanges it has entered, and at its
// end why it ends. A rank whose exchange failed looks for one that is silent, has ended, or has not
// come. The thread that writes has its own connection, because a call does not return while the
// process that keeps the store is stopped. Any thread may call. Internal to Communicator.
#pragma once

#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

namespace spillway::trainer {

class RankWatch {
 public:
  struct Options {
    std::uint32_t rank = 0;
    std::uint32_t world_size = 1;
    bool keeps_store = false;  // this process waits at its end until the others have read
    std::string store_keeper;  // for messages: "rank 0"
  };
  // Blocks until this rank's first line is written. Throws what the store throws. REQUIRES: all
  // ranks have come.
  RankWatch(c10::intrusive_ptr<c10d::Store> store, Options options);
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  // Counts another exchange that this rank enters.
  void enter_exchange() noexcept;
  // Says which rank a failed exchange failed for, and why. Blocks for some seconds at most.
  std::string blame();
  // Tells the others that this rank ends, for `reason` (empty: all is well). Blocks for two seconds
  // at most, for them to read it if this process keeps the store.
  void leave(const std::string& reason) noexcept;

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state, c10d::Store& store) noexcept;

  // Shared with the thread, which is left behind when the store does not answer at the end.
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace spillway::trainer

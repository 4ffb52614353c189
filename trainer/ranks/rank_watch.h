// RankWatch: tells which rank an exchange failed for.
//
// c10d says that a connection closed or that a time was up, never whose fault it was. So each rank
// writes a line to the store twice a second: that it lives, how many exchanges it has entered, and
// at its end why it ends. Whoever fails in an exchange looks who is silent, who has said why it
// ends, or who has not come. The thread that writes has a connection of its own: while the process
// that keeps the store is stopped, a call to it does not return. Internal to Communicator.
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
    bool keeps_store = false;  // this process: it waits at the end until the others have read
    std::string store_keeper;  // in words, for messages: "rank 0"
  };
  // All ranks must have come. Blocks until this one's first line is written. Throws what the store
  // throws.
  RankWatch(c10::intrusive_ptr<c10d::Store> store, Options options);
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  // This rank enters another exchange. Any thread.
  void enter_exchange() noexcept;
  // After an exchange failed: for which rank and why, in words. Blocks, some seconds at most.
  std::string blame();
  // This rank ends, for `reason` (empty: all is well). Blocks two seconds at most, for the others
  // to read it where this process keeps the store.
  void leave(const std::string& reason) noexcept;

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state, c10d::Store& store) noexcept;

  // Shared with the thread, which is left behind when the store does not answer at the end.
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace spillway::trainer

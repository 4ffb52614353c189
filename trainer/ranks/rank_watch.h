// RankWatch: names the rank for which an exchange failed.
//
// c10d reports that a connection closed or that a time was up, never whose fault it was. So each
// rank writes a line to a board twice a second: that it lives, how many exchanges it has entered,
// and at its end why it ends. A rank whose exchange fails reads who is silent, who has ended and
// why, or who has not come. The thread that writes has a connection of its own: a call to the
// board does not return while the process that keeps it is stopped. Internal to Communicator.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace spillway::trainer {

// Where the ranks of a job write, each under its own keys: c10d's store. One thread. Calls block,
// and throw std::exception where the board is gone.
class RankBoard {
 public:
  virtual ~RankBoard() = default;
  virtual void write(const std::string& key, const std::string& text) = 0;
  // Returns the texts of the keys, in order. Blocks until all are written.
  virtual std::vector<std::string> read(const std::vector<std::string>& keys) = 0;
};

class RankWatch {
 public:
  struct Options {
    std::uint32_t rank = 0;
    std::uint32_t world_size = 1;
    bool keeps_board = false;  // this process: it waits at the end until the others have read
    std::string board_keeper;  // in words, for messages: "rank 0"
  };
  // Blocks until this rank's first line is written. Throws the exceptions of the board.
  // REQUIRES: all ranks have come.
  RankWatch(std::unique_ptr<RankBoard> board, Options options);
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  // Counts another exchange that this rank enters.
  void enter_exchange() noexcept;
  // Returns which rank an exchange failed for and why, in words. Blocks for some seconds at most.
  std::string blame();
  // This rank ends, for `reason` (empty: all is well). Blocks for two seconds at most, so that the
  // others can read it if this process keeps the board.
  void leave(const std::string& reason) noexcept;

 private:
  struct State;
  static void run(State& state, RankBoard& board) noexcept;

  // Shared with the thread, which is left behind if the board does not answer at the end.
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace spillway::trainer

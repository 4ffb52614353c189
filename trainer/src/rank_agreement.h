// RankAgreement: a piece of work that all ranks do, and that fails on all when it fails on one.
//
// Work that takes long meets the others now and then, so that a rank that has failed ends
// the others soon and none waits for a slow one beyond the collectives' timeout. All ranks meet
// equally often unless they fail. Internal to checkpoints.
#pragma once

#include <spillway/trainer/communicator.h>
#include <spillway/trainer/failure.h>

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace spillway::trainer {

class RankAgreement {
 public:
  // `work` completes "another rank could not ...".
  RankAgreement(Communicator& ranks, std::string work) : ranks_(&ranks), work_(std::move(work)) {}

  // Throws what `body` throws, or a Failure when another rank's threw.
  template <typename Body>
  void run(const Body& body) {
    try {
      body();
    } catch (const OthersFailed&) {
      refuse();
    } catch (...) {
      const std::exception_ptr failure = std::current_exception();
      try {
        ranks_->all_reduce_sum(1);
      } catch (const Failure&) {  // the others are gone: the first cause counts
      }
      std::rethrow_exception(failure);
    }
    if (ranks_->all_reduce_sum(0) > 0) refuse();
  }
  // Within `body`, after each of many tiles, of which all ranks have equally many.
  void meet_after_tile() {
    if (++tiles_ % kTilesBetweenMeetings != 0) return;
    if (ranks_->all_reduce_sum(0) > 0) throw OthersFailed();
  }

 private:
  static constexpr std::uint64_t kTilesBetweenMeetings = 64;
  struct OthersFailed {};
  [[noreturn]] void refuse() const {
    throw Failure(
        make_error(ErrorKind::kCancelled, work_, "", "another rank could not; it says why")
            .value());
  }

  Communicator* ranks_;
  std::string work_;
  std::uint64_t tiles_ = 0;
};

}  // namespace spillway::trainer

// RankAgreement: work that all ranks do together, and that fails on all if it fails on one.
//
// Long work meets the other ranks now and then: a failed rank ends the others soon, and a slow one
// does not run into the collectives' timeout. All ranks meet equally often unless they fail. One
// thread. Internal to checkpoints.
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

  // Calls `body`. Throws what it throws, or a Failure if another rank's threw.
  template <typename Body>
  void run(const Body& body) {
    try {
      body();
    } catch (const OthersFailed& others) {
      refuse(others.sum);
    } catch (...) {
      const std::exception_ptr failure = std::current_exception();
      try {
        ranks_->all_reduce_sum(kFailed + ranks_->rank());
      } catch (const Failure&) {  // the others are gone: the first cause counts
      }
      std::rethrow_exception(failure);
    }
    if (const double sum = ranks_->all_reduce_sum(0); sum > 0) refuse(sum);
  }
  // Called by `body` after each of many tiles. REQUIRES: all ranks have equally many.
  void meet_after_tile() {
    if (++tiles_ % kTilesBetweenMeetings != 0) return;
    if (const double sum = ranks_->all_reduce_sum(0); sum > 0) throw OthersFailed{sum};
  }

 private:
  static constexpr std::uint64_t kTilesBetweenMeetings = 64;
  // A failed rank adds this and its number: the sum says how many failed, and which if one.
  static constexpr double kFailed = 1 << 20;
  struct OthersFailed {
    double sum;
  };
  [[noreturn]] void refuse(double sum) const {
    const auto all = static_cast<std::uint64_t>(sum);
    const auto each = static_cast<std::uint64_t>(kFailed);
    const std::string who = all / each == 1
                                ? "rank " + std::to_string(all % each) + " could not; it says why"
                                : std::to_string(all / each) + " ranks could not; they say why";
    throw Failure(make_error(ErrorKind::kCancelled, work_, "", who).value());
  }

  Communicator* ranks_;
  std::string work_;
  std::uint64_t tiles_ = 0;
};

}  // namespace spillway::trainer

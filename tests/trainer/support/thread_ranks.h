// Ranks as threads of one process, with collectives over shared memory. Before meet(), they do not
// wait for each other, sums are of one rank alone and tensors stay as they are: models can be made
// one after another, because all threads share torch's generator.
#pragma once

#include <ATen/Functions.h>
#include <spillway/trainer/communicator.h>

#include <atomic>
#include <barrier>
#include <memory>
#include <vector>

namespace spillway::trainer::testing {

class ThreadRanks {
 public:
  explicit ThreadRanks(std::uint32_t size)
      : values_(size), tensors_(size), arrived_(static_cast<std::ptrdiff_t>(size)) {
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      ranks_.push_back(std::make_unique<Rank>(*this, rank));
    }
  }
  Communicator& operator[](std::uint32_t rank) { return *ranks_[rank]; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(ranks_.size()); }
  void meet() { meeting_ = true; }

 private:
  class Rank final : public Communicator {
   public:
    Rank(ThreadRanks& all, std::uint32_t rank) : all_(all), rank_(rank) {}
    std::uint32_t rank() const noexcept override { return rank_; }
    std::uint32_t world_size() const noexcept override { return all_.size(); }
    std::uint32_t local_world_size() const noexcept override { return all_.size(); }
    const char* backend_name() const noexcept override { return "threads"; }
    void all_gather(at::Tensor whole, const at::Tensor& part) override {
      if (!all_.meeting_) return;
      all_.tensors_[rank_] = part;
      all_.arrived_.arrive_and_wait();
      whole.copy_(at::cat(all_.tensors_));
      all_.arrived_.arrive_and_wait();
    }
    void reduce_scatter(at::Tensor part, at::Tensor whole) override {
      if (!all_.meeting_) return;
      all_.tensors_[rank_] = whole;
      all_.arrived_.arrive_and_wait();
      part.zero_();
      for (const at::Tensor& each : all_.tensors_) {
        part.add_(each.narrow(0, rank_ * part.numel(), part.numel()));
      }
      all_.arrived_.arrive_and_wait();
    }
    double all_reduce_sum(double value) override {
      if (!all_.meeting_) return value;
      all_.values_[rank_] = value;
      all_.arrived_.arrive_and_wait();
      double sum = 0;
      for (const double each : all_.values_) sum += each;
      all_.arrived_.arrive_and_wait();
      return sum;
    }
    void barrier() override { all_reduce_sum(0); }

   private:
    ThreadRanks& all_;
    std::uint32_t rank_;
  };

  std::atomic<bool> meeting_{false};
  std::vector<double> values_;
  std::vector<at::Tensor> tensors_;
  std::barrier<> arrived_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

}  // namespace spillway::trainer::testing

// Communicator: the collectives of ZeRO-3 over c10d (Gloo on CPUs, NCCL on GPUs).
//
// Rank and world size come from the launcher's environment: torchrun's RANK, WORLD_SIZE,
// MASTER_ADDR, MASTER_PORT, else SLURM_PROCID/SLURM_NTASKS, else OMPI_COMM_WORLD_*; none of them
// is a world of one, which needs no network. Every call blocks, on every rank, in the same order.
// A rank that is killed, stopped or fails makes the others fail within the timeout (and some
// seconds to find out which one it was): with Failure, in which it is named. After that all calls
// fail. One thread at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace spillway::trainer {

class Communicator {
 public:
  // Longer than a tile waits for its drive: a rank whose drive hangs says so before it is given up.
  static constexpr std::chrono::seconds kDefaultTimeout{180};

  // The number of this process among the ranks of its machine, from the same environment; 0 for a
  // world of one. Throws Failure (kInvalid) for a broken environment.
  static std::uint32_t local_rank();
  // Exchanges tensors on `device`; without an index that is the one numbered local_rank().
  // `timeout`: how long a call waits for the other ranks. Throws Failure (kInvalid for a broken
  // environment, kDeadline when peers do not come). Where there are several ranks, SIGPIPE is
  // ignored from then on, unless the program has a handler of its own.
  static std::unique_ptr<Communicator> from_environment(
      at::Device device, std::chrono::seconds timeout = kDefaultTimeout);
  virtual ~Communicator() = default;

  virtual std::uint32_t rank() const noexcept = 0;
  virtual std::uint32_t world_size() const noexcept = 0;
  // Ranks on this machine that share its memory and processors.
  virtual std::uint32_t local_world_size() const noexcept = 0;
  virtual const char* backend_name() const noexcept = 0;  // "none", "gloo", "nccl"

  // full[r * n .. (r + 1) * n) = part of rank r; both flat, same dtype, n = part.numel().
  virtual void all_gather(at::Tensor full, const at::Tensor& part) = 0;
  // part = sum over ranks of this rank's n elements of `full`.
  virtual void reduce_scatter(at::Tensor part, at::Tensor full) = 0;
  // The sum over all ranks, the same bits on each.
  virtual double all_reduce_sum(double value) = 0;
  // Blocks until all ranks have called it.
  virtual void barrier() = 0;

  // This rank ends, for `reason` (one line); the others' failures will tell it. No other call may
  // follow. Blocks some seconds at most.
  virtual void leave(const std::string& reason) noexcept;
};

}  // namespace spillway::trainer

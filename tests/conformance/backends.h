// The Backends under test, which all pass the same suites.
#pragma once

#include <gtest/gtest.h>
#include <spillway/aio/backend.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "support/simulator.h"

namespace spillway::aio {

struct BackendUnderTest {
  const char* name;
  std::unique_ptr<BackendFactory> (*factory)();
};

inline void PrintTo(const BackendUnderTest& backend, std::ostream* out) { *out << backend.name; }

inline const BackendUnderTest kBackends[] = {
    {"io_uring", io_uring_backend},
    {"threads", thread_pool_backend},
    {"simulator",
     [] { return simulator_backend(std::make_shared<SimulatorControl>(SimulatorOptions{})); }},
    // Most transfers are short or interrupted here.
    {"hostile_simulator",
     [] {
       return simulator_backend(
           std::make_shared<SimulatorControl>(SimulatorOptions{.seed = 11,
                                                               .short_chance = 0.3,
                                                               .interrupt_chance = 0.2,
                                                               .reorder = true,
                                                               .max_delay_rounds = 3,
                                                               .accept_at_most = 3}));
     }},
};

}  // namespace spillway::aio

// A spillway_engine on a backend of the tests, which the C interface cannot make.
#pragma once

#include <spillway/aio/engine.h>

#include <memory>
#include <utility>

#include "c/objects.h"
#include "c_fixture.h"

namespace spillway {

inline spillway_engine* engine_on(std::unique_ptr<aio::BackendFactory> backend,
                                  const aio::EngineOptions& options = {}) {
  auto engine = aio::Engine::create(options, std::move(backend));
  EXPECT_TRUE(engine) << engine.error().message();
  auto object = std::make_shared<c::EngineObject>();
  object->engine = std::move(*engine);
  spillway_engine* handle = nullptr;
  EXPECT_STATUS(SPILLWAY_OK, c::give(std::move(object), &handle, "make a test's engine"));
  return handle;
}

}  // namespace spillway

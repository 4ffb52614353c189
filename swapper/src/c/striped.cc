#include <spillway/aio/striped_file.h>

#include "io_memory.h"
#include "options.h"
#include "request.h"

using namespace spillway;
using namespace spillway::c;

namespace {

struct StripedObject : Object {
  static constexpr Kind kKind = Kind::kStriped;
  StripedObject(std::vector<Use<EngineObject>> used, aio::StripedFile opened, bool can_write)
      : Object(kKind), engines(std::move(used)), file(std::move(opened)), writable(can_write) {
    for (const aio::StripedFile::MemberStats& member : file.stats()) paths.push_back(member.path);
  }
  const std::vector<Use<EngineObject>> engines;
  Mutex mutex;  // of sync and remove
  aio::StripedFile file;
  const bool writable;
  std::vector<std::string> paths;  // of the members, for the caller
};

class StripedOperation final : public Operation {
 public:
  StripedOperation(aio::Direction direction, Use<StripedObject> striped, IoMemory memory,
                   const spillway_io& io, const char* what)
      : direction_(direction),
        striped_(std::move(striped)),
        memory_(std::move(memory)),
        io_(io),
        what_(what) {}

  spillway_status start(std::shared_ptr<RequestObject> request) override {
    auto buffer = memory_.take(what_);
    if (!buffer) return buffer.error();
    aio::StripedFile::Request transfer{
        .offset = io_.offset, .size_bytes = io_.size_bytes, .buffer_offset = memory_.offset()};
    if (io_.urgent != 0) transfer.priority = aio::Priority::kUrgent;
    if (io_.deadline_ms != 0) transfer.deadline = *deadline_in(io_.deadline_ms);
    ticket_ = striped_->file.start(direction_, transfer, std::move(*buffer),
                                   [request = std::move(request)](aio::Completion done) {
                                     request->complete(std::move(done));
                                   });
    return SPILLWAY_OK;
  }
  spillway_status cancel() override {
    ticket_.cancel();
    return SPILLWAY_OK;
  }
  spillway_status expedite() override {
    return failed(SPILLWAY_UNSUPPORTED, "expedite",
                  "a request on a striped file is urgent from its start or never");
  }
  spillway_status finish(aio::Completion completion, std::size_t* moved) override {
    return memory_.put_back(std::move(completion), moved);
  }

 private:
  const aio::Direction direction_;
  const Use<StripedObject> striped_;
  IoMemory memory_;
  const spillway_io io_;
  const char* const what_;
  aio::StripedTicket ticket_;
};

// The engines and the place of a striped file, checked.
struct Wanted {
  spillway_striped_options given;
  std::vector<Use<EngineObject>> used;
  std::vector<aio::Engine*> engines;
  aio::StripedLocation location;
};

spillway_status check(const spillway_striped_options* options, Wanted& wanted, const char* what) {
  spillway_striped_options& given = wanted.given;
  if (auto status = read_options(options, &given, what, /*may_be_null=*/false)) return status;
  const auto misuse = [what](const char* detail) { return failed(SPILLWAY_MISUSE, what, detail); };
  if (given.directories == nullptr || given.directory_count == 0) {
    return misuse("there are no directories");
  }
  if (given.directory_count > aio::StripeMap::kMaxMembers)
    return misuse("more than 64 directories");
  if (given.engines == nullptr ||
      (given.engine_count != 1 && given.engine_count != given.directory_count)) {
    return misuse("give one engine for all directories, or one for each");
  }
  if (given.name == nullptr) return misuse("the name is NULL");
  if (auto status = want_choice(given.direct, 2, "direct", what)) return status;
  for (std::uint32_t i = 0; i < given.directory_count; ++i) {
    if (given.directories[i] == nullptr) return misuse("a directory is NULL");
    wanted.location.directories.emplace_back(given.directories[i]);
  }
  wanted.location.name = given.name;
  for (std::uint32_t i = 0; i < given.engine_count; ++i) {
    auto engine = find<EngineObject>(given.engines[i], what);
    if (!engine) return engine.error();
    wanted.engines.push_back((*engine)->engine.get());
    wanted.used.push_back(Use(std::move(*engine)));
  }
  return SPILLWAY_OK;
}

spillway_status submit(aio::Direction direction, spillway_striped* striped, const spillway_io* io,
                       spillway_request** request, const char* what) {
  if (auto status = want(request, what)) return status;
  *request = nullptr;
  spillway_io given;
  if (auto status = read_options(io, &given, what, /*may_be_null=*/false)) return status;
  if (given.file != nullptr) {
    return failed(SPILLWAY_MISUSE, what, "the `file` of a request on a striped file is not NULL");
  }
  auto memory = IoMemory::of(given, what);
  if (!memory) return memory.error();
  auto object = find<StripedObject>(striped, what);
  if (!object) return object.error();
  if (direction == aio::Direction::kWrite && !(*object)->writable) {
    return failed(SPILLWAY_MISUSE, what, (*object)->paths.front() + " was not opened writable");
  }
  return start_request(std::make_unique<StripedOperation>(direction, Use(std::move(*object)),
                                                          std::move(*memory), given, what),
                       request, what);
}

}  // namespace

spillway_status spillway_striped_create(const spillway_striped_options* options,
                                        spillway_striped** striped) {
  return guarded("create striped file", [&] {
    const char* const what = "create striped file";
    if (auto status = want(striped, what)) return status;
    *striped = nullptr;
    Wanted wanted;
    if (auto status = check(options, wanted, what)) return status;
    const spillway_striped_options& given = wanted.given;
    if (given.speed_count != 0 && given.speed_count != given.directory_count) {
      return failed(SPILLWAY_MISUSE, what, "give a speed for each directory, or none");
    }
    aio::StripedCreateOptions create{.size_bytes = given.size_bytes,
                                     .direct = direct_of(given.direct)};
    if (given.stripe_bytes != 0) create.stripe_bytes = given.stripe_bytes;
    if (given.speed_count != 0) {
      if (given.speeds == nullptr) return failed(SPILLWAY_MISUSE, what, "the speeds are NULL");
      create.speeds.assign(given.speeds, given.speeds + given.speed_count);
    }
    auto made = aio::StripedFile::create(wanted.engines, wanted.location, create);
    if (!made) return failed(made.error());
    return give(std::make_shared<StripedObject>(std::move(wanted.used), std::move(*made), true),
                striped, what);
  });
}

spillway_status spillway_striped_open(const spillway_striped_options* options,
                                      spillway_striped** striped) {
  return guarded("open striped file", [&] {
    const char* const what = "open striped file";
    if (auto status = want(striped, what)) return status;
    *striped = nullptr;
    Wanted wanted;
    if (auto status = check(options, wanted, what)) return status;
    const spillway_striped_options& given = wanted.given;
    if (given.size_bytes != 0 || given.stripe_bytes != 0 || given.speed_count != 0) {
      return failed(SPILLWAY_MISUSE, what, "size_bytes, stripe_bytes and speeds are in the file");
    }
    const bool writable = given.writable != 0;
    auto opened = aio::StripedFile::open(wanted.engines, wanted.location,
                                         {.writable = writable, .direct = direct_of(given.direct)});
    if (!opened) return failed(opened.error());
    return give(
        std::make_shared<StripedObject>(std::move(wanted.used), std::move(*opened), writable),
        striped, what);
  });
}

spillway_status spillway_striped_close(spillway_striped* striped) {
  return guarded("close striped file",
                 [&] { return remove_object(striped, Kind::kStriped, "close striped file"); });
}

spillway_status spillway_striped_read(spillway_striped* striped, const spillway_io* io,
                                      spillway_request** request) {
  return guarded("read", [&] {
    return submit(aio::Direction::kRead, striped, io, request, "read striped file");
  });
}

spillway_status spillway_striped_write(spillway_striped* striped, const spillway_io* io,
                                       spillway_request** request) {
  return guarded("write", [&] {
    return submit(aio::Direction::kWrite, striped, io, request, "write striped file");
  });
}

spillway_status spillway_striped_get_info(spillway_striped* striped, spillway_striped_info* info) {
  return guarded("striped file info", [&] {
    auto object = find<StripedObject>(striped, "striped file info");
    if (!object) return object.error();
    const aio::StripedFile& file = (*object)->file;
    return write_result({.size = 0,
                         .size_bytes = file.size_bytes(),
                         .stripe_bytes = file.map().stripe_bytes(),
                         .member_count = static_cast<std::uint32_t>((*object)->paths.size())},
                        info, "striped file info");
  });
}

spillway_status spillway_striped_get_member(spillway_striped* striped, uint32_t member,
                                            spillway_striped_member* result) {
  return guarded("striped file member", [&] {
    const char* const what = "striped file member";
    auto object = find<StripedObject>(striped, what);
    if (!object) return object.error();
    if (member >= (*object)->paths.size()) {
      return failed(SPILLWAY_MISUSE, what, "there is no such member");
    }
    const aio::StripedFile::MemberStats now = (*object)->file.stats()[member];
    return write_result({.size = 0,
                         .path = (*object)->paths[member].c_str(),
                         .weight = now.weight,
                         .stored_bytes = now.stored_bytes,
                         .read_bytes = now.read_bytes,
                         .written_bytes = now.written_bytes},
                        result, what);
  });
}

spillway_status spillway_striped_sync(spillway_striped* striped) {
  return guarded("sync striped file", [&] {
    auto object = find<StripedObject>(striped, "sync striped file");
    if (!object) return object.error();
    const MutexLock lock((*object)->mutex);
    auto synced = (*object)->file.sync();
    return synced ? SPILLWAY_OK : failed(synced.error());
  });
}

spillway_status spillway_striped_remove(spillway_striped* striped) {
  return guarded("remove striped file", [&] {
    auto object = find<StripedObject>(striped, "remove striped file");
    if (!object) return object.error();
    const MutexLock lock((*object)->mutex);
    auto removed = (*object)->file.remove();
    return removed ? SPILLWAY_OK : failed(removed.error());
  });
}

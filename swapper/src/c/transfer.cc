#include "options.h"
#include "request.h"

using namespace spillway;
using namespace spillway::c;

namespace {

enum class Move { kRead, kWrite };

// What a transfer moves, checked.
struct Wanted {
  Use<StoreObject> store;
  Use<LeaseObject> lease;
  swapper::TileId tile = 0;
  swapper::PlaneRange planes;
  std::size_t bytes = 0;
  bool urgent = false;
};

tl::expected<Wanted, spillway_status> check(Move move, spillway_store* store,
                                            const spillway_tile_io& io, const char* what) {
  const auto misuse = [what](const std::string& detail) {
    return tl::unexpected(failed(SPILLWAY_MISUSE, what, detail));
  };
  auto found = find<StoreObject>(store, what);
  if (!found) return tl::unexpected(found.error());
  Wanted wanted;
  wanted.store = Use(std::move(*found));
  wanted.tile = io.tile;
  wanted.urgent = io.urgent != 0;
  const swapper::TileStore& tiles = *wanted.store->store;
  if (io.tile >= tiles.tile_count()) {
    return tl::unexpected(no_such_tile(tiles, io.tile, what));
  }
  const std::uint32_t planes = tiles.layout().plane_count();
  if (io.first_plane >= planes || io.plane_count > planes - io.first_plane) {
    return misuse("the planes exceed the " + std::to_string(planes) + " of the tile");
  }
  wanted.planes = {.first = io.first_plane,
                   .count = io.plane_count == 0 ? planes - io.first_plane : io.plane_count};
  if (wanted.urgent && move == Move::kWrite) return misuse("no write of a tile is urgent");
  auto lease = find<LeaseObject>(io.lease, what);
  if (!lease) return tl::unexpected(lease.error());
  wanted.lease = Use(std::move(*lease));
  wanted.bytes = tiles.layout().range_bytes(wanted.planes, tiles.tile_elements(io.tile));
  if (wanted.lease->capacity < wanted.bytes) {
    return misuse("the tile's " + std::to_string(wanted.bytes) +
                  " bytes do not fit into a lease of " + std::to_string(wanted.lease->capacity));
  }
  return wanted;
}

class TileOperation final : public Operation {
 public:
  TileOperation(Move move, Wanted wanted, const char* what)
      : move_(move), wanted_(std::move(wanted)), what_(what) {}

  // `request` may be null: `finish` then waits.
  spillway_status start(std::shared_ptr<RequestObject> request) override {
    claim_ = wanted_.store->claims->claim(wanted_.tile, wanted_.planes);
    if (claim_ == nullptr) {
      return failed(SPILLWAY_IN_USE, what_,
                    "another transfer of tile " + std::to_string(wanted_.tile) +
                        " is in flight, or the store is being saved");
    }
    swapper::TileStore& tiles = *wanted_.store->store;
    const char* const why_not =
        move_ == Move::kWrite ? tiles.why_not_writable(wanted_.tile, wanted_.planes) : nullptr;
    if (why_not != nullptr) return failed(SPILLWAY_MISUSE, what_, why_not);
    auto buffer = take_buffer(*wanted_.lease.get(), what_);
    if (!buffer) return buffer.error();
    pinned_pool::Lease moved(std::move(*buffer));
    if (move_ == Move::kRead) {
      const auto priority = wanted_.urgent ? aio::Priority::kUrgent : aio::Priority::kNormal;
      transfer_ = tiles.read(wanted_.tile, wanted_.planes, std::move(moved), priority);
    } else {
      transfer_ = tiles.write(wanted_.tile, wanted_.planes, std::move(moved));
    }
    if (request == nullptr) return SPILLWAY_OK;
    request_ = request.get();
    // With a claim of its own: an abandoned transfer has the tile until it is done. It is dropped
    // first, so that the other one is the last where somebody waits.
    transfer_.when_done([request = std::move(request), claim = claim_]() mutable {
      claim.reset();
      request->complete({});
    });
    return SPILLWAY_OK;
  }

  spillway_status cancel() override {
    if (move_ == Move::kRead) {
      transfer_.cancel();
    } else {
      const std::string detail = "the write of tile " + std::to_string(wanted_.tile) +
                                 " was abandoned; the store completes it";
      request_->complete(
          {.buffer = {}, .transferred = make_error(ErrorKind::kCancelled, what_, "", detail)});
    }
    return SPILLWAY_OK;
  }

  spillway_status expedite() override {
    if (move_ == Move::kWrite) {
      return failed(SPILLWAY_UNSUPPORTED, "expedite", "no write of a tile is urgent");
    }
    transfer_.expedite();
    return SPILLWAY_OK;
  }

  spillway_status finish(aio::Completion completion, std::size_t* moved) override {
    if (!completion.transferred) return failed(completion.transferred.error());  // abandoned
    auto ended = transfer_.wait();
    LeaseObject& lease = *wanted_.lease.get();
    if (!ended) {
      // The buffer will return to the pool; another one takes its place, if one is free.
      put_back(lease, lease.pool->pool->try_acquire());
      if (moved != nullptr) *moved = ended.error().got;
      return failed(ended.error());
    }
    put_back(lease, std::move(*ended));
    if (moved != nullptr) *moved = wanted_.bytes;
    return SPILLWAY_OK;
  }

 private:
  const Move move_;
  const Wanted wanted_;
  const char* const what_;
  RequestObject* request_ = nullptr;  // which owns this; null if the call itself waits
  TileClaims::Claim claim_;
  swapper::Transfer transfer_;
};

spillway_status start_move(Move move, spillway_store* store, const spillway_tile_io* io,
                           spillway_request** request, const char* what) {
  if (auto status = want(request, what)) return status;
  *request = nullptr;
  spillway_tile_io given;
  if (auto status = read_options(io, &given, what, /*may_be_null=*/false)) return status;
  auto wanted = check(move, store, given, what);
  if (!wanted) return wanted.error();
  return start_request(std::make_unique<TileOperation>(move, std::move(*wanted), what), request,
                       what);
}

spillway_status move_tile(Move move, spillway_store* store, std::uint32_t tile,
                          spillway_lease* lease, const char* what) {
  spillway_tile_io all{};
  all.tile = tile;
  all.lease = lease;
  auto wanted = check(move, store, all, what);
  if (!wanted) return wanted.error();
  TileOperation operation(move, std::move(*wanted), what);
  if (auto status = operation.start(nullptr)) return status;
  return operation.finish({}, nullptr);
}

}  // namespace

spillway_status spillway_store_start_read(spillway_store* store, const spillway_tile_io* io,
                                          spillway_request** request) {
  return guarded("read tile",
                 [&] { return start_move(Move::kRead, store, io, request, "read tile"); });
}

spillway_status spillway_store_start_write(spillway_store* store, const spillway_tile_io* io,
                                           spillway_request** request) {
  return guarded("write tile",
                 [&] { return start_move(Move::kWrite, store, io, request, "write tile"); });
}

spillway_status spillway_store_read(spillway_store* store, uint32_t tile, spillway_lease* lease) {
  return guarded("read tile",
                 [&] { return move_tile(Move::kRead, store, tile, lease, "read tile"); });
}

spillway_status spillway_store_write(spillway_store* store, uint32_t tile, spillway_lease* lease) {
  return guarded("write tile",
                 [&] { return move_tile(Move::kWrite, store, tile, lease, "write tile"); });
}

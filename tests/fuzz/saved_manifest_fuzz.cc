// The manifest of saved tiles. Input: what follows its head, which gets the right size and checksum
// here, so that every number is reached. What is taken makes sense, and encodes to the same bytes.
#include <spillway/aio/check.h>
#include <xxhash.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "saved_manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::swapper;
  std::string text("SPLWTILE\4\3\2\1\1\0\0\0", 16);
  const std::uint64_t size_bytes = kSavedHeadBytes + size + sizeof(XXH64_hash_t);
  text.append(reinterpret_cast<const char*>(&size_bytes), sizeof size_bytes);
  text.append(reinterpret_cast<const char*>(data), size);
  const XXH64_hash_t sum = XXH3_64bits(text.data(), text.size());
  text.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  const auto manifest = decode_saved_manifest(std::as_bytes(std::span(text)), "x");
  if (!manifest) {
    SPILLWAY_CHECK(!manifest.error().detail.empty(), "an error without a reason");
    return 0;
  }
  SPILLWAY_CHECK(encode(*manifest) == text, "decodes to something else");
  const Layout layout(manifest->planes);
  for (const SavedManifest::Tile& tile : manifest->tiles) {
    const std::uint64_t bytes = layout.tile_bytes(manifest->tile_elements[tile.tile]);
    SPILLWAY_CHECK(tile.offset + bytes <= manifest->file_bytes[tile.file],
                   "a tile beyond the end of its segment");
  }
  return 0;
}

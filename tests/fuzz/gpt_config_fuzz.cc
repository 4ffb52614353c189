// The reader of a model's config.json: an error with words in it, or a model whose sizes add up.
#include <spillway/aio/check.h>
#include "trainer/models/gpt2/family.h"

#include <fstream>

#include "support/scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::trainer;
  static const spillway::Scratch scratch;
  const std::string path = scratch / "config.json";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  auto model = load_model_config(path);
  if (!model) {
    SPILLWAY_CHECK(model.error().kind == spillway::ErrorKind::kInvalid, "another kind of error");
    SPILLWAY_CHECK(!model.error().detail.empty(), "an error without a reason");
    return 0;
  }
  const GptConfig* const config = &gpt_config(**model);
  SPILLWAY_CHECK(validate(*config).has_value(), "a model that validate() refuses");
  SPILLWAY_CHECK(config->n_embd % config->n_head == 0, "heads of a broken width");
  if (config->n_layer > 1000) return 0;  // adding up takes long, and tells nothing new
  unsigned __int128 sum = 0;
  for (const UnitSize& unit : unit_sizes(*config)) sum += unit.parameters;
  SPILLWAY_CHECK(sum == parameter_count(*config), "the units are not the model");
  const auto again = read_saved_model(saved_model(**model), "x");
  SPILLWAY_CHECK(again && saved_model(**again) == saved_model(**model), "saved as something else");
  return 0;
}

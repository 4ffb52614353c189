// Gpt2Weights: the weights of a GPT-2 in Hugging Face's layout, read as parameters of ours.
//
// A directory holds config.json and model.safetensors, or model.safetensors.index.json and the
// files it names (plain names in that directory). Names may lack "transformer.", as in files of the
// bare model; values may be fp32, bf16 or fp16. Opening reads headers alone and checks that every
// parameter is there with its shape, and nothing that has no place in the model; masks that old
// files carry are passed over. Reading turns projections round in blocks: memory is bounded
// whatever the model's size. All calls block. One thread at a time; move-only.
#pragma once

#include "trainer/files/safetensors.h"
#include "trainer/models/gpt2/tensors.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

// The model of `directory`/config.json. kUnsupported or kInvalid names what is not built here.
Result<GptConfig> load_gpt2_config(const std::filesystem::path& directory);

class Gpt2Weights {
 public:
  // Most values of a projection that are turned round at a time, and at least a row: 32 MiB.
  static constexpr std::uint64_t kGroupValues = std::uint64_t{8} << 20;
  // kNotFound, kInvalid, kUnsupported, with the name of the file and the tensor.
  static Result<Gpt2Weights> open(const std::filesystem::path& directory, const GptConfig& config,
                                  std::uint64_t group_values = kGroupValues);

  // Values [first, first + to.size()) of the flattened parameter. REQUIRES: it is one of the
  // model's, and they are within it.
  Result<void> read(const std::string& parameter, std::uint64_t first, std::span<float> to);

  const std::filesystem::path& directory() const noexcept { return directory_; }
  std::size_t file_count() const noexcept { return files_.size(); }
  std::size_t tensor_count() const noexcept { return sources_.size(); }
  // "F32", or "F32, F16".
  std::string dtypes() const;

 private:
  struct Source {
    const SafetensorsFile* file = nullptr;
    const SafeTensor* tensor = nullptr;
    std::uint64_t rows = 0;  // of the parameter, when it is turned round; else 0
    std::uint64_t columns = 0;
  };
  using Found = std::map<std::string, Source>;  // by the tensor's name

  Gpt2Weights(std::filesystem::path directory, std::uint64_t group_values)
      : directory_(std::move(directory)), group_values_(group_values) {}
  tl::unexpected<Error> refuse(ErrorKind kind, std::string why) const;
  Result<void> open_files();
  Result<std::vector<std::string>> file_names() const;
  Result<void> match(const GptConfig& config);
  Result<void> take(const TensorOfParameter& entry, Found* found);
  Result<void> check_rest(const GptConfig& config, const Found& rest);
  Result<void> compare_tied_head(const Source& head);
  Result<void> read_flat(const Source& source, std::uint64_t first, std::span<float> to);
  Result<void> read_transposed(const Source& source, std::uint64_t first, std::span<float> to);
  Result<void> load_group(const Source& source, std::uint64_t first_row);

  std::filesystem::path directory_;
  std::uint64_t group_values_;
  std::vector<SafetensorsFile> files_;     // not moved once sources_ point into them
  std::map<std::string, Source> sources_;  // by the parameter's name
  std::vector<std::byte> bytes_;           // as in the file
  // Rows of a parameter that was turned round: reading goes on where it ended, mostly.
  struct Group {
    const SafeTensor* tensor = nullptr;
    std::uint64_t first_row = 0;
    std::vector<float> values;
  } group_;
};

}  // namespace spillway::trainer

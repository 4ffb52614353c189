// HuggingFaceWeights: the weights of a model in Hugging Face's layout, read as parameters of ours.
//
// A directory holds model.safetensors, or model.safetensors.index.json and the files it names
// (plain names in that directory); the model's TensorMap says what is what. Values may be fp32,
// bf16 or fp16. Opening reads headers alone and checks that every parameter is there with its
// shape, and nothing that has no place in the model. Reading transposes in blocks: memory is
// bounded whatever the model's size. All calls block. One thread at a time; move-only.
#pragma once

#include <spillway/trainer/model.h>
#include "trainer/files/safetensors.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

class HuggingFaceWeights {
 public:
  // Most values of a parameter that are transposed at a time, and at least a row: 32 MiB.
  static constexpr std::uint64_t kGroupValues = std::uint64_t{8} << 20;
  // kNotFound, kInvalid, kUnsupported, with the name of the file and the tensor.
  static Result<HuggingFaceWeights> open(const std::filesystem::path& directory,
                                         const ModelConfig& model,
                                         std::uint64_t group_values = kGroupValues);

  // Reads values [first, first + to.size()) of the flattened parameter. kInvalid, with the tensor's
  // name, if one is not finite. REQUIRES: it is one of the model's, and they are within it.
  Result<void> read(const std::string& parameter, std::uint64_t first, std::span<float> to);

  const std::filesystem::path& directory() const noexcept { return directory_; }
  std::size_t file_count() const noexcept { return files_.size(); }
  std::size_t tensor_count() const noexcept { return tensor_count_; }
  // "F32", or "F32, F16".
  std::string dtypes() const;

 private:
  struct Found {
    const SafetensorsFile* file = nullptr;
    const SafeTensor* tensor = nullptr;
  };
  // A parameter's values: a rectangle of a tensor whose lines have `line` values.
  struct Source {
    Found from;
    std::uint64_t line = 0;
    std::uint64_t row0 = 0, col0 = 0;
    std::uint64_t rows = 0, columns = 0;  // of the parameter
    bool transposed = false;
  };
  using Tensors = std::map<std::string, Found>;  // by the model's name for them

  HuggingFaceWeights(std::filesystem::path directory, std::string title, std::uint64_t group_values)
      : directory_(std::move(directory)), title_(std::move(title)), group_values_(group_values) {}
  tl::unexpected<Error> refuse(ErrorKind kind, std::string why) const;
  Result<void> open_files();
  Result<std::vector<std::string>> file_names() const;
  Result<void> match(const ModelConfig& model);
  Result<Tensors> list_tensors(const TensorMap& map) const;
  Result<void> take(const MappedTensor& wanted, const TensorMap& map, Tensors* found);
  Result<void> check_rest(const TensorMap& map, const Tensors& taken, const Tensors& rest) const;
  Result<void> compare(const TiedTensor& tied, const Found& one, const Found& other) const;
  Result<void> read_values(const Source& source, std::uint64_t at, std::span<float> to);
  Result<void> read_rows(const Source& source, std::uint64_t first, std::span<float> to);
  Result<void> read_transposed(const Source& source, std::uint64_t first, std::span<float> to);
  Result<void> load_group(const Source& source, std::uint64_t first_row);

  std::filesystem::path directory_;
  std::string title_;  // of the family
  std::uint64_t group_values_;
  std::vector<SafetensorsFile> files_;     // not moved once sources_ point into them
  std::map<std::string, Source> sources_;  // by the parameter's name
  std::size_t tensor_count_ = 0;
  std::vector<std::byte> bytes_;  // as in the file
  // Rows of a parameter that was transposed: reading goes on where it ended, mostly.
  struct Group {
    const Source* source = nullptr;
    std::uint64_t first_row = 0;
    std::vector<float> values;
  } group_;
};

}  // namespace spillway::trainer

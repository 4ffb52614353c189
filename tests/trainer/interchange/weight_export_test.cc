// Weights leave a checkpoint exactly, in any layout, block size and number of files, or not at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/weight_export.h>
#include "trainer/interchange/hf_import.h"
#include "trainer/kernels/hi_lo.h"
#include "trainer/models/gpt2/family.h"
#include "trainer/models/gpt2/tensors.h"
#include "trainer/plan/checkpoint_planes.h"

#include <set>

#include "tests/support/scratch.h"
#include "tests/trainer/checkpoint/format/checkpoint_fixture.h"
#include "tests/trainer/files/safetensors_fixture.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A checkpoint of a GPT, written by hand: one shard, one extent a parameter.
class GptCheckpoint {
 public:
  GptCheckpoint(std::filesystem::path directory, const GptConfig& config, Dtype dtype)
      : directory_(std::move(directory)), dtype_(dtype) {
    manifest.format = {.kind = OptimizerKind::kAdamW, .weights = dtype};
    set_model(config);
    const TensorMap map = gpt2_tensors(config);
    for (const TensorSlice& entry : map.slices) {
      manifest.parameters.push_back({entry.parameter, entry.shape, false});
    }
  }
  void set_model(const GptConfig& config) { manifest.model = gpt_json(config); }
  // Bits that any float may have, but for NaN.
  static float value_of(std::uint32_t parameter, std::uint64_t at) {
    std::uint32_t bits = static_cast<std::uint32_t>(at * 2654435761u + parameter * 40503u);
    if ((bits & 0x7f800000u) == 0x7f800000u) bits &= ~0x00800000u;
    return std::bit_cast<float>(bits);
  }

  void write() {
    const auto files = make_checkpoint_files();
    auto file = files->create(directory_ / "rank-0000.bin");
    ASSERT_TRUE(file) << file.error().message();
    ShardWriter writer(std::move(*file), "rank-0000.bin");
    ShardIndex index;
    const CheckpointPlanes planes = checkpoint_planes(manifest.format);
    for (std::uint32_t number = 0; number < manifest.parameters.size(); ++number) {
      CheckpointExtent extent{element_count(manifest.parameters[number]), {}, {}};
      extent.segments.push_back({number, 0, 0, extent.elements});
      for (std::uint32_t plane = 0; plane < planes.all.size(); ++plane) {
        auto offset = writer.append(plane_of(number, plane, extent.elements, planes));
        ASSERT_TRUE(offset);
        extent.planes.push_back({0, *offset});
      }
      index.extents.push_back(std::move(extent));
    }
    auto entry = writer.finish();
    ASSERT_TRUE(entry);
    index.files.push_back(std::move(*entry));
    const std::string text = to_text(index);
    write_bytes(directory_ / "rank-0000.json", text);
    manifest.shards = {{"rank-0000.json", text.size(), seal_of(text)}};
    write_bytes(directory_ / kManifestName, to_text(manifest));
  }

  CheckpointManifest manifest;

 private:
  std::vector<std::byte> plane_of(std::uint32_t number, std::uint32_t plane, std::uint64_t elements,
                                  const CheckpointPlanes& planes) const {
    const std::uint64_t size = planes.all[plane].bytes_per_block;
    std::vector<std::byte> bytes(elements * size, std::byte{0x5a});
    if (plane > (dtype_ == Dtype::kBf16 ? 1u : 0u)) return bytes;  // a moment
    for (std::uint64_t i = 0; i < elements; ++i) {
      const float value = value_of(number, i);
      const HiLo halves = hi_lo_split(value);
      const void* from = &value;
      if (dtype_ == Dtype::kBf16) from = plane == 0 ? &halves.hi : &halves.lo;
      std::memcpy(bytes.data() + i * size, from, size);
    }
    return bytes;
  }

  std::filesystem::path directory_;
  Dtype dtype_;
};

GptConfig small_gpt(bool tied) {
  GptConfig config;
  config.n_layer = 1;
  config.n_embd = 40;
  config.n_head = 2;
  config.n_positions = 9;
  config.vocab_size = 33;
  config.tie_word_embeddings = tied;
  return config;
}

class WeightExportTest : public ::testing::Test {
 protected:
  Result<ExportReport> run(const ExportOptions& options) {
    auto checkpoint = Checkpoint::open(saved_.path());
    if (!checkpoint) return tl::unexpected(checkpoint.error());
    return export_weights(*checkpoint, out_ / "model", options);
  }
  std::set<std::string> left() {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(out_.path())) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }
  static std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

  Scratch saved_;
  Scratch out_;
};

TEST_F(WeightExportTest, TheReaderGetsTheMasterWeightsBack) {
  for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp32}) {
    for (const bool tied : {true, false}) {
      GptCheckpoint checkpoint(saved_.path(), small_gpt(tied), dtype);
      checkpoint.write();
      // Projections whole, in bands of rows, and row by row; one file, some, and one a tensor.
      struct Sizes {
        std::uint64_t group, shard;
      };
      for (const Sizes sizes :
           {Sizes{1'000'000, 100'000'000}, {700, 20'000}, {1, 100'000'000}, {700, 1}}) {
        const auto report = run({.max_shard_bytes = sizes.shard, .group_values = sizes.group});
        ASSERT_TRUE(report) << report.error().message();
        EXPECT_EQ(report->tensors, checkpoint.manifest.parameters.size());
        EXPECT_EQ(report->files == 1, sizes.shard == 100'000'000);
        EXPECT_EQ(report->files == report->tensors, sizes.shard == 1);
        const auto config = load_hugging_face_config(out_ / "model");
        ASSERT_TRUE(config) << config.error().message();
        auto weights = HuggingFaceWeights::open(out_ / "model", **config);
        ASSERT_TRUE(weights) << weights.error().message();
        EXPECT_EQ(weights->file_count(), report->files);
        for (std::uint32_t number = 0; number < report->tensors; ++number) {
          const CheckpointParameter& parameter = checkpoint.manifest.parameters[number];
          std::vector<float> values(element_count(parameter));
          ASSERT_TRUE(weights->read(parameter.name, 0, values));
          for (std::uint64_t i = 0; i < values.size(); ++i) {
            ASSERT_EQ(bits(values[i]), bits(GptCheckpoint::value_of(number, i)))
                << parameter.name << " " << i;
          }
        }
        std::filesystem::remove_all(out_ / "model");
      }
      for (const auto& entry : std::filesystem::directory_iterator(saved_.path())) {
        std::filesystem::remove(entry.path());
      }
    }
  }
}

TEST_F(WeightExportTest, Bf16IsWhatTrainingComputesWith) {
  for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp32}) {
    GptCheckpoint checkpoint(saved_.path(), small_gpt(true), dtype);
    checkpoint.write();
    ASSERT_TRUE(run({.dtype = Dtype::kBf16}));
    auto weights = HuggingFaceWeights::open(out_ / "model", *gpt2_model(small_gpt(true)));
    ASSERT_TRUE(weights) << weights.error().message();
    EXPECT_EQ(weights->dtypes(), "BF16");
    for (std::uint32_t number = 0; number < checkpoint.manifest.parameters.size(); ++number) {
      const CheckpointParameter& parameter = checkpoint.manifest.parameters[number];
      std::vector<float> values(element_count(parameter));
      ASSERT_TRUE(weights->read(parameter.name, 0, values));
      for (std::uint64_t i = 0; i < values.size(); ++i) {
        const HiLo halves = hi_lo_split(GptCheckpoint::value_of(number, i));
        ASSERT_EQ(bits(values[i]), std::uint32_t{halves.hi} << 16) << parameter.name << " " << i;
      }
    }
    std::filesystem::remove_all(out_ / "model");
    for (const auto& entry : std::filesystem::directory_iterator(saved_.path())) {
      std::filesystem::remove(entry.path());
    }
  }
}

// Two ranks, several extents a parameter, padding, one frozen: names and shapes as they are.
TEST_F(WeightExportTest, AnyModelLeavesUnderItsOwnNames) {
  write_example(saved_.path());
  const auto refused = run({});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("fewer parameters than blocks"));
  ASSERT_TRUE(run({.layout = nullptr}));
  EXPECT_EQ(left(), (std::set<std::string>{"model", "model.safetensors"}));
  const auto file = SafetensorsFile::open(out_ / "model" / "model.safetensors");
  ASSERT_TRUE(file) << file.error().message();
  const CheckpointManifest manifest = example_manifest();
  ASSERT_EQ(file->tensors().size(), manifest.parameters.size());
  for (std::uint32_t number = 0; number < manifest.parameters.size(); ++number) {
    const SafeTensor& tensor = file->tensors()[number];
    EXPECT_EQ(tensor.name, manifest.parameters[number].name);
    EXPECT_TRUE(std::ranges::equal(tensor.shape, manifest.parameters[number].shape));
    std::vector<std::byte> bytes(tensor.end - tensor.begin);
    ASSERT_TRUE(file->read(tensor, 0, bytes));
    for (std::uint64_t i = 0; i < bytes.size() / 4; ++i) {
      const auto half = [&](std::uint32_t plane) {
        return static_cast<std::uint16_t>(
            std::to_integer<unsigned>(byte_of(number, plane, 2 * i)) |
            std::to_integer<unsigned>(byte_of(number, plane, 2 * i + 1)) << 8);
      };
      const bool frozen = manifest.parameters[number].frozen;
      const float expected = hi_lo_join({half(0), frozen ? std::uint16_t{0} : half(1)});
      std::uint32_t found = 0;
      std::memcpy(&found, bytes.data() + 4 * i, 4);
      ASSERT_EQ(found, bits(expected)) << tensor.name << " " << i;
    }
  }
}

TEST_F(WeightExportTest, WhatIsNoGptIsRefusedByName) {
  const auto refused = [&](const std::function<void(CheckpointManifest&)>& change,
                           const std::string& reason) {
    GptCheckpoint checkpoint(saved_.path(), small_gpt(true), Dtype::kFp32);
    change(checkpoint.manifest);
    checkpoint.write();
    const auto report = run({});
    ASSERT_FALSE(report) << reason;
    EXPECT_THAT(report.error().message(), HasSubstr(reason));
    EXPECT_THAT(left(), IsEmpty());
    for (const auto& entry : std::filesystem::directory_iterator(saved_.path())) {
      std::filesystem::remove(entry.path());
    }
  };
  const auto refused_size = [&](std::uint32_t GptConfig::*size, std::uint32_t value,
                                const std::string& reason) {
    GptConfig other = small_gpt(true);
    other.*size = value;
    refused([&](auto& manifest) { manifest.model = gpt_json(other); }, reason);
  };
  refused([](auto& manifest) { manifest.model.clear(); }, "a model that is no GPT");
  refused_size(&GptConfig::n_layer, 4'000'000'000, "n_layer");
  refused_size(&GptConfig::n_layer, 1'000'000'000, "n_layer");
  refused_size(&GptConfig::n_head, 3, "n_embd");
  refused_size(&GptConfig::n_positions, 10, "wpe.weight' is 9 x 40");
  refused([](auto& manifest) { manifest.parameters.pop_back(); }, "no parameter 'head.ln_f.bias'");
  refused(
      [](auto& manifest) {
        manifest.parameters.push_back({"x", {2}, false});
      },
      "no place for parameter 'x'");
  refused([](auto& manifest) { manifest.parameters[5].name = "other"; }, "'other' stands where");
}

TEST_F(WeightExportTest, AFlippedBitLeavesNothingBehind) {
  GptCheckpoint checkpoint(saved_.path(), small_gpt(true), Dtype::kBf16);
  checkpoint.write();
  std::string bytes = read_all(saved_ / "rank-0000.bin");
  bytes[100] = static_cast<char>(bytes[100] ^ 1);
  write_bytes(saved_ / "rank-0000.bin", bytes);
  const auto report = run({});
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(report.error().message(), HasSubstr("param_hi of transformer.wte.weight"));
  EXPECT_THAT(left(), IsEmpty());
}

TEST_F(WeightExportTest, NothingOfOthersIsTouched) {
  GptCheckpoint checkpoint(saved_.path(), small_gpt(true), Dtype::kFp32);
  checkpoint.write();
  std::filesystem::create_directory(out_ / "model");
  const auto exists = run({});
  ASSERT_FALSE(exists);
  EXPECT_THAT(exists.error().message(), HasSubstr("exists already"));
  std::filesystem::remove(out_ / "model");

  // What a killed export left goes, but not what is no export's.
  std::filesystem::create_directory(out_ / "model.tmp");
  write_bytes(out_ / "model.tmp" / "model.safetensors", "half of it");
  write_bytes(out_ / "model.tmp" / "notes.txt", "mine");
  const auto foreign = run({});
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().message(), HasSubstr("files that are no export's"));
  EXPECT_EQ(left(), (std::set<std::string>{"model.tmp", "notes.txt"}));
  std::filesystem::remove(out_ / "model.tmp" / "notes.txt");
  write_bytes(out_ / "model.tmp" / "model-00001-of-00002.safetensors", "half of it");
  const auto done = run({});
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(left(), (std::set<std::string>{"model", "model.safetensors", "config.json"}));
}

}  // namespace
}  // namespace spillway::trainer::testing

#include "trainer/interchange/hf_import.h"
#include <spillway/aio/check.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "trainer/files/transpose.h"

namespace spillway::trainer {
namespace {

constexpr const char* kOperation = "read GPT-2 weights";
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kPrefix = "transformer.";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kTokenTable = "transformer.wte.weight";
constexpr std::uintmax_t kMostTextBytes = std::uintmax_t{16} << 20;
constexpr std::uint64_t kCompareBytes = std::uint64_t{1} << 20;

bool is_plain_name(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

// A causal mask, which files of older versions carry: "h.3.attn.bias", "h.3.attn.masked_bias".
bool is_mask(std::string_view name) {
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return name.starts_with("h.") &&
         (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  return nlohmann::json(shape).dump();
}

Result<void> check_text_size(const std::filesystem::path& path) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) return errno_error("open", path.string(), error.value());
  if (bytes <= kMostTextBytes) return {};
  return make_error(ErrorKind::kInvalid, kOperation, path.string(), "it is far too large");
}

}  // namespace

Result<GptConfig> load_gpt2_config(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "config.json";
  if (auto checked = check_text_size(path); !checked) return tl::unexpected(checked.error());
  return load_model(path.string());
}

tl::unexpected<Error> Gpt2Weights::refuse(ErrorKind kind, std::string why) const {
  return make_error(kind, kOperation, directory_.string(), std::move(why));
}

Result<Gpt2Weights> Gpt2Weights::open(const std::filesystem::path& directory,
                                      const GptConfig& config, std::uint64_t group_values) {
  Gpt2Weights weights(directory, group_values);
  if (auto opened = weights.open_files(); !opened) return tl::unexpected(opened.error());
  if (auto matched = weights.match(config); !matched) return tl::unexpected(matched.error());
  return weights;
}

Result<std::vector<std::string>> Gpt2Weights::file_names() const {
  std::error_code error;
  if (std::filesystem::exists(directory_ / kSingleFile, error)) {
    return std::vector<std::string>{kSingleFile};
  }
  const std::filesystem::path path = directory_ / kIndexFile;
  if (!std::filesystem::exists(path, error)) {
    return refuse(ErrorKind::kNotFound,
                  std::string("neither ") + kSingleFile + " nor " + kIndexFile + " is there");
  }
  if (auto checked = check_text_size(path); !checked) return tl::unexpected(checked.error());
  std::ifstream stream(path, std::ios::binary);
  const auto index = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  std::set<std::string> names;
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  const bool sound = index.is_object() && map != index.end() && map->is_object() && !map->empty();
  for (const auto& file : sound ? *map : nlohmann::json::array()) {
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>())) {
      return refuse(ErrorKind::kInvalid,
                    std::string(kIndexFile) + ": " + file.dump() + " is no plain file name");
    }
    names.insert(file.get<std::string>());
  }
  if (!names.empty()) return std::vector<std::string>(names.begin(), names.end());
  return refuse(ErrorKind::kInvalid,
                std::string(kIndexFile) + ": it has no weight_map of names to files");
}

Result<void> Gpt2Weights::open_files() {
  auto names = file_names();
  if (!names) return tl::unexpected(names.error());
  files_.reserve(names->size());
  for (const std::string& name : *names) {
    auto file = SafetensorsFile::open(directory_ / name);
    if (!file) return tl::unexpected(file.error());
    files_.push_back(std::move(*file));
  }
  return {};
}

Result<void> Gpt2Weights::match(const GptConfig& config) {
  Found found;
  for (const SafetensorsFile& file : files_) {
    for (const SafeTensor& tensor : file.tensors()) {
      if (is_mask(tensor.name)) continue;
      // With and without the prefix are two names of one parameter.
      const bool prefixed = tensor.name.starts_with(kPrefix) || tensor.name == kHead;
      const std::string name = prefixed ? tensor.name : std::string(kPrefix) + tensor.name;
      if (!found.emplace(name, Source{&file, &tensor}).second) {
        return refuse(ErrorKind::kInvalid, "tensor '" + name + "' is there twice");
      }
    }
  }
  // Before a list is made that is as long as config.json says.
  if (config.n_layer > found.size()) {
    return refuse(ErrorKind::kInvalid, "config.json tells of " + std::to_string(config.n_layer) +
                                           " blocks, the files of " + std::to_string(found.size()) +
                                           " tensors");
  }
  for (const TensorOfParameter& entry : gpt2_tensors(config)) {
    if (auto taken = take(entry, &found); !taken) return taken;
  }
  return check_rest(config, found);
}

Result<void> Gpt2Weights::take(const TensorOfParameter& entry, Found* found) {
  const auto place = found->find(entry.tensor);
  if (place == found->end()) {
    return refuse(
        ErrorKind::kInvalid,
        "there is no tensor '" + entry.tensor + "'" +
            (entry.tensor == kHead ? " (config.json: tie_word_embeddings is false)" : ""));
  }
  Source source = place->second;
  const SafeTensor& tensor = *source.tensor;
  const std::vector<std::uint64_t> shape = tensor_shape(entry);
  if (tensor.shape != shape) {
    return refuse(ErrorKind::kInvalid, "tensor '" + entry.tensor + "' has the shape " +
                                           shape_text(tensor.shape) + ", the model's is " +
                                           shape_text(shape));
  }
  if (!has_decodable_values(tensor)) {
    return refuse(ErrorKind::kUnsupported, "tensor '" + entry.tensor + "' is of " + tensor.dtype +
                                               "; F32, BF16 and F16 are read");
  }
  if (entry.transposed) {
    source.rows = shape[1];
    source.columns = shape[0];
  }
  sources_.emplace(entry.parameter, source);
  found->erase(place);
  return {};
}

Result<void> Gpt2Weights::check_rest(const GptConfig& config, const Found& rest) {
  for (const auto& [name, source] : rest) {
    if (name == kHead && config.tie_word_embeddings) {
      if (auto same = compare_tied_head(source); !same) return same;
      continue;
    }
    return refuse(ErrorKind::kInvalid, "GPT-2 has no place for tensor '" + name + "'");
  }
  return {};
}

// A tied head may be written out: then it must be the embedding.
Result<void> Gpt2Weights::compare_tied_head(const Source& head) {
  const Source& table = sources_.at(kTokenTable);
  const auto differs = [&] {
    return refuse(ErrorKind::kInvalid,
                  "lm_head.weight is not wte.weight, but config.json says that they are tied "
                  "(tie_word_embeddings)");
  };
  const std::uint64_t size = head.tensor->end - head.tensor->begin;
  if (head.tensor->shape != table.tensor->shape || head.tensor->dtype != table.tensor->dtype) {
    return differs();
  }
  std::vector<std::byte> mine, other;
  for (std::uint64_t at = 0; at < size; at += kCompareBytes) {
    mine.resize(std::min(kCompareBytes, size - at));
    other.resize(mine.size());
    if (auto read = head.file->read(*head.tensor, at, mine); !read) return read;
    if (auto read = table.file->read(*table.tensor, at, other); !read) return read;
    if (mine != other) return differs();
  }
  return {};
}

std::string Gpt2Weights::dtypes() const {
  std::set<std::string> all;
  for (const auto& [parameter, source] : sources_) all.insert(source.tensor->dtype);
  std::string text;
  for (const std::string& dtype : all) text += (text.empty() ? "" : ", ") + dtype;
  return text;
}

Result<void> Gpt2Weights::read(const std::string& parameter, std::uint64_t first,
                               std::span<float> to) {
  const auto found = sources_.find(parameter);
  SPILLWAY_CHECK(found != sources_.end(), "a parameter of the model");
  const Source& source = found->second;
  return source.rows == 0 ? read_flat(source, first, to) : read_transposed(source, first, to);
}

Result<void> Gpt2Weights::read_flat(const Source& source, std::uint64_t first,
                                    std::span<float> to) {
  const std::uint64_t bytes = safetensors_dtype_bytes(source.tensor->dtype);
  bytes_.resize(to.size() * bytes);
  if (auto read = source.file->read(*source.tensor, first * bytes, bytes_); !read) return read;
  decode_values(source.tensor->dtype, bytes_.data(), to.size(), to.data());
  return {};
}

Result<void> Gpt2Weights::read_transposed(const Source& source, std::uint64_t first,
                                          std::span<float> to) {
  const std::uint64_t height = rows_at_a_time(group_values_, source.rows, source.columns);
  while (!to.empty()) {
    const std::uint64_t row = first / source.columns / height * height;
    if (auto loaded = load_group(source, row); !loaded) return loaded;
    const std::uint64_t offset = first - row * source.columns;
    const std::size_t count = std::min<std::size_t>(to.size(), group_.values.size() - offset);
    std::memcpy(to.data(), group_.values.data() + offset, count * sizeof(float));
    to = to.subspan(count);
    first += count;
  }
  return {};
}

// Rows of the parameter are columns of the tensor: of each of its rows a stretch is read.
Result<void> Gpt2Weights::load_group(const Source& source, std::uint64_t first_row) {
  if (group_.tensor == source.tensor && group_.first_row == first_row) return {};
  group_.tensor = nullptr;
  const std::uint64_t bytes = safetensors_dtype_bytes(source.tensor->dtype);
  const std::uint64_t rows =
      std::min(rows_at_a_time(group_values_, source.rows, source.columns), source.rows - first_row);
  group_.values.resize(rows * source.columns);
  // A few of the tensor's lines at a time.
  const std::uint64_t height =
      std::clamp<std::uint64_t>(group_values_ / 16 / rows, 1, source.columns);
  std::vector<float> lines(height * rows);
  bytes_.resize(rows * bytes);
  for (std::uint64_t first_line = 0; first_line < source.columns; first_line += height) {
    const std::uint64_t count = std::min(height, source.columns - first_line);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t offset = ((first_line + i) * source.rows + first_row) * bytes;
      if (auto read = source.file->read(*source.tensor, offset, bytes_); !read) return read;
      decode_values(source.tensor->dtype, bytes_.data(), rows, lines.data() + i * rows);
    }
    transpose(lines.data(), count, rows, group_.values.data() + first_line, source.columns);
  }
  group_.tensor = source.tensor;
  group_.first_row = first_row;
  return {};
}

}  // namespace spillway::trainer

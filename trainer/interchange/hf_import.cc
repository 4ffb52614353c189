#include "trainer/interchange/hf_import.h"
#include <spillway/aio/check.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "trainer/files/transpose.h"

namespace spillway::trainer {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::uintmax_t kMostTextBytes = std::uintmax_t{16} << 20;
constexpr std::uint64_t kCompareBytes = std::uint64_t{1} << 20;

bool is_plain_name(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  return nlohmann::json(shape).dump();
}

}  // namespace

tl::unexpected<Error> HuggingFaceWeights::refuse(ErrorKind kind, std::string why) const {
  return make_error(kind, "read " + title_ + " weights", directory_.string(), std::move(why));
}

Result<HuggingFaceWeights> HuggingFaceWeights::open(const std::filesystem::path& directory,
                                                    const ModelConfig& model,
                                                    std::uint64_t group_values) {
  HuggingFaceWeights weights(directory, model.family().title(), group_values);
  if (auto opened = weights.open_files(); !opened) return tl::unexpected(opened.error());
  if (auto matched = weights.match(model); !matched) return tl::unexpected(matched.error());
  return weights;
}

Result<std::vector<std::string>> HuggingFaceWeights::file_names() const {
  std::error_code error;
  if (std::filesystem::exists(directory_ / kSingleFile, error)) {
    return std::vector<std::string>{kSingleFile};
  }
  const std::filesystem::path path = directory_ / kIndexFile;
  if (!std::filesystem::exists(path, error)) {
    return refuse(ErrorKind::kNotFound,
                  std::string("neither ") + kSingleFile + " nor " + kIndexFile + " is there");
  }
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) return errno_error("open", path.string(), error.value());
  if (bytes > kMostTextBytes) {
    return make_error(ErrorKind::kInvalid, "read " + title_ + " weights", path.string(),
                      "it is far too large");
  }
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

Result<void> HuggingFaceWeights::open_files() {
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

Result<HuggingFaceWeights::Tensors> HuggingFaceWeights::list_tensors(const TensorMap& map) const {
  Tensors found;
  for (const SafetensorsFile& file : files_) {
    for (const SafeTensor& tensor : file.tensors()) {
      const std::string name = map.name_of == nullptr ? tensor.name : map.name_of(tensor.name);
      if (name.empty()) continue;
      if (!found.emplace(name, Found{&file, &tensor}).second) {
        return refuse(ErrorKind::kInvalid, "tensor '" + name + "' is there twice");
      }
    }
  }
  return found;
}

Result<void> HuggingFaceWeights::match(const ModelConfig& model) {
  std::size_t tensors = 0;
  for (const SafetensorsFile& file : files_) tensors += file.tensors().size();
  // Before a list is made that is as long as config.json says.
  if (model.block_count() > tensors) {
    return refuse(ErrorKind::kInvalid,
                  "config.json tells of " + std::to_string(model.block_count()) +
                      " blocks, the files of " + std::to_string(tensors) + " tensors");
  }
  const TensorMap map = model.tensors();
  if (auto covered = check_coverage(map, title_); !covered) return covered;
  auto found = list_tensors(map);
  if (!found) return tl::unexpected(found.error());
  const Tensors all = *found;
  for (const MappedTensor& tensor : mapped_tensors(map)) {
    if (auto taken = take(tensor, map, &*found); !taken) return taken;
    ++tensor_count_;
  }
  return check_rest(map, all, *found);
}

Result<void> HuggingFaceWeights::take(const MappedTensor& wanted, const TensorMap& map,
                                      Tensors* found) {
  const auto place = found->find(wanted.name);
  if (place == found->end()) {
    const auto note = map.notes.find(wanted.name);
    return refuse(ErrorKind::kInvalid, "there is no tensor '" + wanted.name + "'" +
                                           (note == map.notes.end() ? "" : note->second));
  }
  const SafeTensor& tensor = *place->second.tensor;
  if (tensor.shape != wanted.shape) {
    return refuse(ErrorKind::kInvalid, "tensor '" + wanted.name + "' has the shape " +
                                           shape_text(tensor.shape) + ", the model's is " +
                                           shape_text(wanted.shape));
  }
  if (!has_decodable_values(tensor)) {
    return refuse(ErrorKind::kUnsupported, "tensor '" + wanted.name + "' is of " + tensor.dtype +
                                               "; F32, BF16 and F16 are read");
  }
  std::uint64_t line = 1;
  for (std::size_t i = 1; i < wanted.shape.size(); ++i) line *= wanted.shape[i];
  for (const TensorSlice* slice : wanted.slices) {
    const bool transposed = slice->transposed;
    sources_.emplace(slice->parameter,
                     Source{.from = place->second,
                            .line = line,
                            .row0 = slice->row0,
                            .col0 = slice->col0,
                            .rows = transposed ? slice->columns() : slice->rows(),
                            .columns = transposed ? slice->rows() : slice->columns(),
                            .transposed = transposed});
  }
  found->erase(place);
  return {};
}

Result<void> HuggingFaceWeights::check_rest(const TensorMap& map, const Tensors& taken,
                                            const Tensors& rest) const {
  for (const auto& [name, found] : rest) {
    const auto tied = std::ranges::find(map.tied, name, &TiedTensor::tensor);
    if (tied == map.tied.end()) {
      return refuse(ErrorKind::kInvalid, title_ + " has no place for tensor '" + name + "'");
    }
    if (auto same = compare(*tied, found, taken.at(tied->same_as)); !same) return same;
  }
  return {};
}

// A tied tensor may be written out: then it must be what it is tied to.
Result<void> HuggingFaceWeights::compare(const TiedTensor& tied, const Found& one,
                                         const Found& other) const {
  const std::uint64_t size = one.tensor->end - one.tensor->begin;
  if (one.tensor->shape != other.tensor->shape || one.tensor->dtype != other.tensor->dtype) {
    return refuse(ErrorKind::kInvalid, tied.problem);
  }
  std::vector<std::byte> mine, theirs;
  for (std::uint64_t at = 0; at < size; at += kCompareBytes) {
    mine.resize(std::min(kCompareBytes, size - at));
    theirs.resize(mine.size());
    if (auto read = one.file->read(*one.tensor, at, mine); !read) return read;
    if (auto read = other.file->read(*other.tensor, at, theirs); !read) return read;
    if (mine != theirs) return refuse(ErrorKind::kInvalid, tied.problem);
  }
  return {};
}

std::string HuggingFaceWeights::dtypes() const {
  std::set<std::string> all;
  for (const auto& [parameter, source] : sources_) all.insert(source.from.tensor->dtype);
  std::string text;
  for (const std::string& dtype : all) text += (text.empty() ? "" : ", ") + dtype;
  return text;
}

Result<void> HuggingFaceWeights::read(const std::string& parameter, std::uint64_t first,
                                      std::span<float> to) {
  const auto found = sources_.find(parameter);
  SPILLWAY_CHECK(found != sources_.end(), "a parameter of the model");
  const Source& source = found->second;
  return source.transposed ? read_transposed(source, first, to) : read_rows(source, first, to);
}

// Values of the tensor from number `at` on, which follow each other in the file.
Result<void> HuggingFaceWeights::read_values(const Source& source, std::uint64_t at,
                                             std::span<float> to) {
  const SafeTensor& tensor = *source.from.tensor;
  const std::uint64_t bytes = safetensors_dtype_bytes(tensor.dtype);
  bytes_.resize(to.size() * bytes);
  if (auto read = source.from.file->read(tensor, at * bytes, bytes_); !read) return read;
  decode_values(tensor.dtype, bytes_.data(), to.size(), to.data());
  const auto bad = std::ranges::find_if(to, [](float value) { return !std::isfinite(value); });
  if (bad == to.end()) return {};
  return make_error(
      ErrorKind::kInvalid, "read " + title_ + " weights", source.from.file->path().string(),
      "tensor '" + tensor.name + "' has " + (std::isnan(*bad) ? "NaN" : "an infinity") +
          " at value " + std::to_string(at + static_cast<std::uint64_t>(bad - to.begin())));
}

// Whole lines of the tensor are read at once, parts of lines one by one.
Result<void> HuggingFaceWeights::read_rows(const Source& source, std::uint64_t first,
                                           std::span<float> to) {
  if (source.columns == source.line) {
    return read_values(source, source.row0 * source.line + first, to);
  }
  while (!to.empty()) {
    const std::uint64_t row = first / source.columns, column = first % source.columns;
    const std::size_t count = std::min<std::size_t>(to.size(), source.columns - column);
    const std::uint64_t at = (source.row0 + row) * source.line + source.col0 + column;
    if (auto read = read_values(source, at, to.first(count)); !read) return read;
    to = to.subspan(count);
    first += count;
  }
  return {};
}

Result<void> HuggingFaceWeights::read_transposed(const Source& source, std::uint64_t first,
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

// Rows of the parameter are columns of the tensor: of each of its lines a stretch is read.
Result<void> HuggingFaceWeights::load_group(const Source& source, std::uint64_t first_row) {
  if (group_.source == &source && group_.first_row == first_row) return {};
  group_.source = nullptr;
  const std::uint64_t rows =
      std::min(rows_at_a_time(group_values_, source.rows, source.columns), source.rows - first_row);
  group_.values.resize(rows * source.columns);
  // A few of the tensor's lines at a time.
  const std::uint64_t height =
      std::clamp<std::uint64_t>(group_values_ / 16 / rows, 1, source.columns);
  std::vector<float> lines(height * rows);
  for (std::uint64_t first_line = 0; first_line < source.columns; first_line += height) {
    const std::uint64_t count = std::min(height, source.columns - first_line);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t at =
          (source.row0 + first_line + i) * source.line + source.col0 + first_row;
      auto read = read_values(source, at, std::span(lines).subspan(i * rows, rows));
      if (!read) return read;
    }
    transpose(lines.data(), count, rows, group_.values.data() + first_line, source.columns);
  }
  group_.source = &source;
  group_.first_row = first_row;
  return {};
}

}  // namespace spillway::trainer

#include <fcntl.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/weight_export.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "trainer/checkpoint/directory.h"
#include "trainer/checkpoint/files.h"

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "trainer/files/placed_file.h"
#include "trainer/files/transpose.h"
#include "trainer/interchange/export_plan.h"
#include "trainer/interchange/weight_reader.h"

namespace spillway::trainer {
namespace {

using std::filesystem::path;

constexpr const char* kOperation = "export";
constexpr std::uint64_t kFlatValues = std::uint64_t{2} << 20;  // copied at a time

std::string index_json(const ExportPlan& plan) {
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const PlannedFile& file : plan.files) {
    for (const SafeTensor& tensor : file.tensors) map[tensor.name] = file.name;
  }
  const nlohmann::ordered_json index{{"metadata", {{"total_size", plan.tensor_bytes()}}},
                                     {"weight_map", std::move(map)}};
  return index.dump(2) + "\n";
}

class TensorWriter {
 public:
  TensorWriter(Checkpoint& checkpoint, const ExportPlan& plan)
      : reader_(checkpoint), plan_(&plan) {}

  Result<void> write(const path& directory, const PlannedFile& planned) {
    auto file = PlacedFile::create(directory / planned.name, planned.size_bytes());
    if (!file) return tl::unexpected(file.error());
    auto done = file->write(0, std::as_bytes(std::span(planned.header)));
    for (std::size_t i = 0; done && i < planned.tensors.size(); ++i) {
      const std::uint64_t offset = planned.header.size() + planned.tensors[i].begin;
      const MappedTensor& tensor = plan_->tensors[planned.first + i];
      done = plan_->value_bytes == 2 ? write_tensor<std::uint16_t>(*file, offset, tensor)
                                     : write_tensor<float>(*file, offset, tensor);
      file->complete_until(planned.header.size() + planned.tensors[i].end);
    }
    return done ? file->sync_and_close() : done;
  }

 private:
  template <typename Value>
  Result<void> write_tensor(PlacedFile& file, std::uint64_t offset, const MappedTensor& tensor) {
    std::uint64_t line = 1;
    for (std::size_t i = 1; i < tensor.shape.size(); ++i) line *= tensor.shape[i];
    for (const TensorSlice* slice : tensor.slices) {
      const Target target{offset + (slice->row0 * line + slice->col0) * sizeof(Value), line,
                          plan_->numbers.at(slice->parameter)};
      auto written = slice->transposed          ? write_transposed<Value>(file, target, *slice)
                     : slice->columns() == line ? write_whole<Value>(file, target, *slice)
                                                : write_rows<Value>(file, target, *slice);
      if (!written) return written;
    }
    return {};
  }

  // Where a parameter's first value goes, and how many values a line of the tensor has.
  struct Target {
    std::uint64_t offset = 0;  // bytes
    std::uint64_t line = 0;
    std::uint32_t parameter = 0;
  };

  // Lines of the tensor that follow each other.
  template <typename Value>
  Result<void> write_whole(PlacedFile& file, const Target& target, const TensorSlice& slice) {
    const std::uint64_t elements = slice.rows() * slice.columns();
    std::vector<Value> values(std::min(elements, kFlatValues));
    for (std::uint64_t first = 0; first < elements; first += values.size()) {
      const auto part =
          std::span(values).first(std::min<std::uint64_t>(values.size(), elements - first));
      if (auto read = reader_.read(target.parameter, first, part); !read) return read;
      auto written = file.write(target.offset + first * sizeof(Value), std::as_bytes(part));
      if (!written) return written;
    }
    return {};
  }

  // Some rows at a time, read once and in order; each is a stretch of one of the tensor's lines.
  template <typename Value>
  Result<void> write_rows(PlacedFile& file, const Target& target, const TensorSlice& slice) {
    const std::uint64_t rows = slice.rows(), columns = slice.columns();
    const std::uint64_t height = rows_at_a_time(plan_->group_values, rows, columns);
    std::vector<Value> group(height * columns);
    for (std::uint64_t row = 0; row < rows; row += height) {
      const std::uint64_t count = std::min(height, rows - row);
      const auto part = std::span(group).first(count * columns);
      if (auto read = reader_.read(target.parameter, row * columns, part); !read) return read;
      for (std::uint64_t i = 0; i < count; ++i) {
        auto written = file.write(target.offset + (row + i) * target.line * sizeof(Value),
                                  std::as_bytes(part.subspan(i * columns, columns)));
        if (!written) return written;
      }
    }
    return {};
  }

  // Some rows at a time, read once and in order; they are a stretch of each of the tensor's lines.
  template <typename Value>
  Result<void> write_transposed(PlacedFile& file, const Target& target, const TensorSlice& slice) {
    const std::uint64_t rows = slice.columns(), columns = slice.rows();  // of the parameter
    const std::uint64_t height = rows_at_a_time(plan_->group_values, rows, columns);
    std::vector<Value> group(height * columns), transposed(height * columns);
    for (std::uint64_t row = 0; row < rows; row += height) {
      const std::uint64_t count = std::min(height, rows - row);
      const auto part = std::span(group).first(count * columns);
      if (auto read = reader_.read(target.parameter, row * columns, part); !read) return read;
      transpose(group.data(), count, columns, transposed.data(), count);
      const bool whole = count == target.line;  // then the lines follow each other
      for (std::uint64_t line = 0; line < (whole ? 1 : columns); ++line) {
        const auto stretch =
            std::span(transposed).subspan(line * count, whole ? count * columns : count);
        auto written = file.write(target.offset + (line * target.line + row) * sizeof(Value),
                                  std::as_bytes(stretch));
        if (!written) return written;
      }
    }
    return {};
  }

  WeightReader reader_;
  const ExportPlan* plan_;
};

bool is_ours(const std::string& name) {
  return name == "config.json" || name == "model.safetensors.index.json" ||
         (name.starts_with("model") && name.ends_with(".safetensors"));
}

// What an export writes, and its directory, unless something else is in it.
void remove_export(const path& directory) {
  std::error_code ignored;
  std::vector<path> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    if (is_ours(entry.path().filename().string())) found.push_back(entry.path());
  }
  for (const path& file : found) std::filesystem::remove(file, ignored);
  std::filesystem::remove(directory, ignored);
}

// DIRECTORY.tmp, which nobody else writes to as long as this is there.
class Unfinished {
 public:
  static Result<Unfinished> make(const path& directory, CheckpointFiles& files) {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      auto made = files.make_directory(directory);
      if (!made && made.error().errno_value != EEXIST) return tl::unexpected(made.error());
      const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
      if (fd < 0 && errno == ENOENT) continue;  // removed by another, as below
      if (fd < 0) return errno_error("open", directory.string(), errno);
      Unfinished unfinished(fd, directory);
      if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
        unfinished.finished_ = true;  // it is not ours to remove
        return make_error(ErrorKind::kBusy, kOperation, directory.string(),
                          "another export is writing there");
      }
      if (!unfinished.has_the_name()) {
        // Until it was locked another took it for a killed one's, and removed it. What has the
        // name now is not ours.
        unfinished.finished_ = true;
        continue;
      }
      if (made) return unfinished;
      // Left by one that was killed: its end removes it.
    }
    return make_error(ErrorKind::kBusy, kOperation, directory.string(),
                      "it is there, and holds files that are no export's");
  }
  Unfinished(Unfinished&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        directory_(std::move(other.directory_)),
        finished_(other.finished_) {}
  ~Unfinished() {
    if (fd_ < 0) return;
    if (!finished_) remove_export(directory_);
    ::close(fd_);
  }
  void set_finished() { finished_ = true; }

 private:
  static constexpr int kAttempts = 8;  // more than once only where several begin at a time

  Unfinished(int fd, path directory) : fd_(fd), directory_(std::move(directory)) {}
  bool has_the_name() const {
    struct stat named {
    }, locked{};
    return ::lstat(directory_.c_str(), &named) == 0 && ::fstat(fd_, &locked) == 0 &&
           named.st_dev == locked.st_dev && named.st_ino == locked.st_ino;
  }

  int fd_;
  path directory_;
  bool finished_ = false;
};

Result<void> write_all(Checkpoint& checkpoint, const ExportPlan& plan, const path& directory,
                       const ExportOptions& options, CheckpointFiles& files) {
  TensorWriter writer(checkpoint, plan);
  for (const PlannedFile& file : plan.files) {
    if (auto written = writer.write(directory, file); !written) return written;
  }
  if (plan.files.size() > 1) {
    auto written = write_file(files, directory / "model.safetensors.index.json", index_json(plan));
    if (!written) return written;
  }
  if (plan.model != nullptr) {
    const char* const dtype = options.dtype == Dtype::kBf16 ? "bfloat16" : "float32";
    auto written =
        write_file(files, directory / "config.json", plan.model->hugging_face_json(dtype));
    if (!written) return written;
  }
  return files.sync_directory(directory);
}

Result<void> check_is_new(const path& directory) {
  std::error_code ignored;
  if (std::filesystem::symlink_status(directory, ignored).type() ==
      std::filesystem::file_type::not_found) {
    return {};
  }
  return make_error(ErrorKind::kInvalid, kOperation, directory.string(),
                    "it exists already; name a directory that does not");
}

Result<void> check_room(const path& parent, const ExportPlan& plan) {
  std::uint64_t bytes = std::uint64_t{1} << 20;  // of names, and of the filesystem's own
  for (const PlannedFile& file : plan.files) bytes += file.size_bytes();
  auto space = check_space(parent, bytes, "the export");
  if (!space) space.error().operation = kOperation;
  return space;
}

}  // namespace

Result<ExportReport> export_weights(Checkpoint& checkpoint, const path& given,
                                    const ExportOptions& options) {
  const std::string source = checkpoint.directory().string();
  ExportPlan plan;
  if (auto planned = plan_export(checkpoint.manifest(), options, source, &plan); !planned) {
    return tl::unexpected(planned.error());
  }
  if (checkpoint.manifest().parameters.empty()) {
    return make_error(ErrorKind::kInvalid, kOperation, source, "it has no parameters");
  }
  const path normal = std::filesystem::absolute(given).lexically_normal();
  const path directory = normal.has_filename() ? normal : normal.parent_path();
  const path parent = directory.parent_path();
  const path unfinished_path = directory.string() + kUnfinishedSuffix;
  if (auto is_new = check_is_new(directory); !is_new) return tl::unexpected(is_new.error());
  const auto files = make_checkpoint_files();
  auto unfinished = Unfinished::make(unfinished_path, *files);
  if (!unfinished) return tl::unexpected(unfinished.error());
  // After what a killed export had taken is free again.
  auto done = check_room(parent, plan);
  if (done) done = write_all(checkpoint, plan, unfinished_path, options, *files);
  if (done) done = files->rename(unfinished_path, directory);
  if (!done) return tl::unexpected(done.error());
  unfinished->set_finished();
  if (auto synced = files->sync_directory(parent); !synced) return tl::unexpected(synced.error());
  return ExportReport{plan.tensors.size(), plan.files.size(), plan.tensor_bytes()};
}

}  // namespace spillway::trainer

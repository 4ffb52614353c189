// The names of checkpoints in their directory.
#include <spillway/trainer/checkpoint.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

namespace spillway::trainer {
namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::size_t kDigits = 8;  // at least

}  // namespace

std::string checkpoint_name(std::uint64_t step) {
  std::string digits = std::to_string(step);
  if (digits.size() < kDigits) digits.insert(0, kDigits - digits.size(), '0');
  return std::string(kPrefix) + digits;
}

std::optional<std::uint64_t> step_of_name(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::uint64_t step = 0;
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (parsed.ec != std::errc() || parsed.ptr != end || checkpoint_name(step) != name) {
    return std::nullopt;
  }
  return step;
}

std::vector<std::uint64_t> list_checkpoints(const std::filesystem::path& directory) {
  std::vector<std::uint64_t> steps;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    const auto step = step_of_name(entry.path().filename().string());
    if (step && entry.is_directory(ignored)) steps.push_back(*step);
  }
  std::ranges::sort(steps);
  return steps;
}

}  // namespace spillway::trainer

#include "trainer/device/device.h"

#include <spillway/aio/check.h>
#include <spillway/trainer/device.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "trainer/base/nearest_name.h"
#include "trainer/device/kinds.h"

namespace spillway::trainer {
namespace {

// By type, for the process: so libtorch keeps what it knows of devices.
struct Kinds : std::array<std::atomic<const DeviceKind*>, at::COMPILE_TIME_MAX_DEVICE_TYPES> {
  Kinds() : array{} {
    for (const DeviceKind* kind : built_in_kinds()) {
      (*this)[static_cast<std::size_t>(kind->type())] = kind;
    }
  }
};

Kinds& kinds() {
  static Kinds all;
  return all;
}

std::atomic<const DeviceKind*>& kind_at(at::DeviceType type) {
  return kinds()[static_cast<std::size_t>(type)];
}

struct Name {
  std::string kind;
  std::optional<std::uint32_t> number;
};

Error invalid(std::string_view name, const std::string& why) {
  return make_error(ErrorKind::kInvalid, "use --device " + std::string(name), "", why).value();
}

std::string in_quotes(std::string_view text) {
  std::string result("'");
  return result.append(text).append("'");
}

const DeviceKind* find_kind(std::string_view name) {
  for (const auto& kind : kinds()) {
    if (kind != nullptr && kind.load()->name() == name) return kind;
  }
  return nullptr;
}

std::vector<std::string> known_kinds() {
  std::vector<std::string> names{"cpu", "cuda"};  // whatever this build has
  for (const auto& kind : kinds()) {
    const std::string name = kind != nullptr ? kind.load()->name() : names[0];
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

Result<Name> read_name(std::string_view text) {
  const std::size_t colon = text.find(':');
  Name name{std::string(text.substr(0, colon)), std::nullopt};
  const std::vector<std::string> known = known_kinds();
  if (std::find(known.begin(), known.end(), name.kind) == known.end()) {
    const std::string nearest = nearest_name(name.kind, known);
    return tl::unexpected(
        invalid(text, in_quotes(name.kind) + " is no device: cpu, cuda or cuda:N" +
                          (nearest.empty() ? "" : "; did you mean " + nearest + "?")));
  }
  if (colon == std::string_view::npos) return name;
  const std::string_view digits = text.substr(colon + 1);
  if (name.kind == "cpu") {
    return tl::unexpected(invalid(text, "there is one cpu, without a number: cpu"));
  }
  std::uint8_t number = 0;  // more than any machine has
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (failed != std::errc() || end != digits.data() + digits.size() || number > 127) {
    return tl::unexpected(invalid(
        text, in_quotes(digits) + " is no number of a device: " + name.kind + ":0 is the first"));
  }
  name.number = number;
  return name;
}

}  // namespace

void DeviceKind::copy(const at::Tensor& to, const at::Tensor& from) const {
  const c10::Stream stream =
      current_stream(to.device().type() == type() ? to.device() : from.device());
  copy_async(to, from, stream);
  record(stream)->wait();
}

const DeviceKind& kind_of(at::Device device) {
  const DeviceKind* kind = kind_at(device.type());
  SPILLWAY_CHECK(kind != nullptr, "the trainer knows the kind of device");
  return *kind;
}

DeviceRegistration::DeviceRegistration(const DeviceKind& kind)
    : type_(kind.type()), before_(kind_at(type_).exchange(&kind)) {}

DeviceRegistration::~DeviceRegistration() { kind_at(type_) = before_; }

Result<void> check_device_name(std::string_view name) {
  const Result<Name> read = read_name(name);
  if (!read) return tl::unexpected(read.error());
  return {};
}

Result<at::Device> open_device(std::string_view name, std::uint32_t local_rank) {
  const Result<Name> read = read_name(name);
  if (!read) return tl::unexpected(read.error());
  // autograd counts the devices of every kind too: the first count of the process is this one.
  for (const DeviceKind* built_in : built_in_kinds()) built_in->count();
  const auto lacking = [&](const std::string& why) { return tl::unexpected(invalid(name, why)); };
  const DeviceKind* kind = find_kind(read->kind);
  const int count = kind == nullptr ? 0 : kind->count();
  if (count == 0) {
    return lacking(
        "this build or machine has no CUDA ('spillway doctor' says more); use "
        "--device cpu");
  }
  if (!kind->has_memory_of_its_own()) return at::Device(kind->type());
  const std::uint32_t number = read->number.value_or(local_rank);
  if (number >= static_cast<std::uint32_t>(count)) {
    return lacking("this machine has " + std::to_string(count) + ", " + read->kind +
                   ":0 is the first" + (read->number ? "" : "; it has more ranks than devices"));
  }
  const at::Device device(kind->type(), static_cast<at::DeviceIndex>(number));
  kind->make_current(device);
  return device;
}

}  // namespace spillway::trainer

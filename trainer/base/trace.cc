#include <spillway/trainer/trace.h>

#include <spillway/aio/check.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "trainer/base/nvtx_range.h"

namespace spillway::trainer {
namespace {

constexpr const char* kOpening = "{\"traceEvents\":[";

double microseconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; }

std::string json_string(const std::string& text) {
  using nlohmann::json;
  return json(text).dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

std::uint32_t track_id(Lane lane, std::uint32_t track) {
  return (static_cast<std::uint32_t>(lane) + 1) * 1000 + track;
}

// Events of one lane overlap (operations in flight), a viewer's track must not: each goes to the
// first track that is free.
class Tracks {
 public:
  std::uint32_t take(std::uint64_t start, std::uint64_t end) {
    const auto free = std::find_if(ends_.begin(), ends_.end(),
                                   [&](std::uint64_t busy_until) { return busy_until <= start; });
    if (free == ends_.end()) {
      ends_.push_back(end);
      return static_cast<std::uint32_t>(ends_.size() - 1);
    }
    *free = end;
    return static_cast<std::uint32_t>(free - ends_.begin());
  }
  std::uint32_t count() const { return static_cast<std::uint32_t>(ends_.size()); }

 private:
  std::vector<std::uint64_t> ends_;
};

std::string metadata(const char* what, std::uint32_t thread, const std::string& arguments) {
  return std::string("{\"name\":\"") + what +
         "\",\"ph\":\"M\",\"pid\":0,\"tid\":" + std::to_string(thread) + ",\"args\":{" + arguments +
         "}}";
}

}  // namespace

const char* name_of(Lane lane) {
  constexpr const char* kNames[kLanes] = {"step", "compute", "optimizer", "copy",
                                          "read", "write",   "wait"};
  return kNames[static_cast<std::size_t>(lane)];
}

// All zero is a span that is not finished, so that the mapped pages need not be touched before.
struct Trace::Span {
  std::uint64_t start_ns;
  std::uint64_t duration_ns;
  std::uint64_t bytes;
  const char* name;
  std::int32_t unit;
  std::int32_t tile;
  Lane lane;
  std::uint32_t finished;  // written last, read by another thread
};

Trace::Trace(const TraceOptions& options) : options_(options), origin_(Clock::now()) {
  static_assert(sizeof(Span) == 48 && std::is_trivial_v<Span>);
  SPILLWAY_CHECK(options.capacity > 0, "a trace has room for a span");
  void* memory = mmap(nullptr, options.capacity * sizeof(Span), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SPILLWAY_CHECK(memory != MAP_FAILED, "address space for a trace");
  spans_ = static_cast<Span*>(memory);
}

Trace::~Trace() { munmap(spans_, options_.capacity * sizeof(Span)); }

void Trace::add(Lane lane, const char* name, Clock::time_point start, Clock::time_point end,
                const TraceArgs& args) noexcept {
  if (!recording()) return;
  const std::uint64_t index = next_.fetch_add(1, std::memory_order_relaxed);
  if (index >= options_.capacity) return;
  const auto nanoseconds = [](Clock::duration time) {
    const auto count = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    return static_cast<std::uint64_t>(std::max<decltype(count)>(count, 0));
  };
  Span& span = spans_[index];
  span.start_ns = nanoseconds(start - origin_);
  span.duration_ns = nanoseconds(end - start);
  span.bytes = args.bytes;
  span.name = name;
  span.unit = args.unit;
  span.tile = args.tile;
  span.lane = lane;
  std::atomic_ref<std::uint32_t>(span.finished).store(1, std::memory_order_release);
}

void Trace::begin_step(std::uint64_t step) noexcept {
  step_ = step;
  step_start_ = Clock::now();
  recording_ = options_.first_step <= step && step <= options_.last_step;
}

void Trace::end_step() noexcept {
  add(Lane::kStep, "step", step_start_, Clock::now(),
      {.unit = static_cast<std::int32_t>(
           std::min<std::uint64_t>(step_, std::numeric_limits<std::int32_t>::max()))});
  if (step_ >= options_.last_step) recording_ = false;
}

aio::IoObserver Trace::io_observer() noexcept {
  const auto ended = [](void* trace, const aio::EndedOperation& operation) noexcept {
    const bool read = operation.direction == aio::Direction::kRead;
    static_cast<Trace*>(trace)->add(read ? Lane::kRead : Lane::kWrite, read ? "read" : "write",
                                    operation.submitted, operation.ended,
                                    {.bytes = operation.size_bytes});
  };
  return {.ended = ended, .context = this};
}

std::size_t Trace::kept() const noexcept {
  return std::min<std::size_t>(next_.load(std::memory_order_relaxed), options_.capacity);
}

std::uint64_t Trace::dropped() const noexcept {
  return next_.load(std::memory_order_relaxed) - kept();
}

std::vector<const Trace::Span*> Trace::finished_spans() const {
  std::vector<const Span*> spans;
  for (std::size_t i = 0; i < kept(); ++i) {
    if (std::atomic_ref<std::uint32_t>(spans_[i].finished).load(std::memory_order_acquire) != 0) {
      spans.push_back(&spans_[i]);
    }
  }
  // Of two that start together the longer one first: it may hold the other.
  std::sort(spans.begin(), spans.end(), [](const Span* a, const Span* b) {
    return a->start_ns != b->start_ns ? a->start_ns < b->start_ns : a->duration_ns > b->duration_ns;
  });
  return spans;
}

std::string Trace::as_json(const Span& span, std::uint32_t track) const {
  std::string name = span.name;
  const bool step = span.lane == Lane::kStep;
  if (step) {
    name += " " + std::to_string(span.unit);
  } else if (span.unit >= 0 && static_cast<std::size_t>(span.unit) < unit_names_.size()) {
    name += " " + unit_names_[span.unit];
  }
  char numbers[160];
  std::snprintf(
      numbers, sizeof numbers, ",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,\"pid\":0,\"tid\":%u",
      microseconds(span.start_ns), microseconds(span.duration_ns), track_id(span.lane, track));
  std::string arguments;
  const auto argument = [&](const char* key, auto value) {
    arguments +=
        std::string(arguments.empty() ? "" : ",") + "\"" + key + "\":" + std::to_string(value);
  };
  if (span.bytes > 0) argument("bytes", span.bytes);
  if (span.unit >= 0) argument(step ? "step" : "unit", span.unit);
  if (span.tile >= 0) argument("tile", span.tile);
  return "{\"name\":" + json_string(name) + ",\"cat\":\"" + name_of(span.lane) + "\"" + numbers +
         ",\"args\":{" + arguments + "}}";
}

Result<void> Trace::write(const std::filesystem::path& path, const std::string& process) const {
  std::error_code ignored;
  const bool in_place =
      std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored);
  std::filesystem::path target = path;
  if (!in_place) target += ".part";
  errno = 0;
  std::ofstream file(target, std::ios::trunc);
  if (!file) return errno_error("write trace", path.string(), errno == 0 ? EIO : errno);
  file << kOpening << "\n" << metadata("process_name", 0, "\"name\":" + json_string(process));
  Tracks tracks[kLanes];
  for (const Span* span : finished_spans()) {
    const std::uint32_t track = tracks[static_cast<std::size_t>(span->lane)].take(
        span->start_ns, span->start_ns + span->duration_ns);
    file << ",\n" << as_json(*span, track);
  }
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    for (std::uint32_t track = 0; track < tracks[lane].count(); ++track) {
      const std::uint32_t thread = track_id(static_cast<Lane>(lane), track);
      std::string name = name_of(static_cast<Lane>(lane));
      if (tracks[lane].count() > 1) name += " " + std::to_string(track + 1);
      file << ",\n" << metadata("thread_name", thread, "\"name\":" + json_string(name));
      file << ",\n"
           << metadata("thread_sort_index", thread, "\"sort_index\":" + std::to_string(thread));
    }
  }
  file << "\n],\"displayTimeUnit\":\"ms\",\"otherData\":{\"process\":" << json_string(process)
       << ",\"dropped_spans\":" << dropped() << "}}\n";
  file.close();
  if (!file) {
    const int why = errno == 0 ? EIO : errno;
    if (!in_place) std::filesystem::remove(target, ignored);
    return errno_error("write trace", path.string(), why);
  }
  if (in_place) return {};
  if (std::rename(target.c_str(), path.c_str()) != 0) {
    const int why = errno;
    std::filesystem::remove(target, ignored);
    return errno_error("write trace", path.string(), why);
  }
  return {};
}

Result<void> check_trace_path(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return {};
  std::ifstream existing(path);
  std::string opening(std::char_traits<char>::length(kOpening), '\0');
  existing.read(opening.data(), static_cast<std::streamsize>(opening.size()));
  if (existing.gcount() == 0 || opening == kOpening) return {};
  return make_error(ErrorKind::kInvalid, "write trace", path.string(),
                    "the file exists and is no trace: it is left alone, name another or remove it");
}

void TraceSpan::begin(Lane lane, const char* name, const TraceArgs& args) noexcept {
  lane_ = lane;
  name_ = name;
  args_ = args;
  nvtx_push(name);
  start_ = Trace::Clock::now();
}

void TraceSpan::end() noexcept {
  trace_->add(lane_, name_, start_, Trace::Clock::now(), args_);
  nvtx_pop();
}

}  // namespace spillway::trainer

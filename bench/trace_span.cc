// What one span of a trace costs, in CPU nanoseconds of a thread that does nothing else:
//
//   off        no trace: TraceSpan with a null pointer
//   waiting    a trace outside the steps that were asked for
//   recording  a span is kept: two looks at the clock, 48 bytes
//
// Prints "off N waiting N recording N" for bench/trace_cost.py, each the median of the repetitions.
#include <spillway/trainer/trace.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

namespace {

using spillway::trainer::Lane;
using spillway::trainer::Trace;
using spillway::trainer::TraceSpan;

constexpr int kSpans = 200'000;
constexpr int kRepetitions = 9;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The pointer is read anew each time, as in a program that does not know what it will be.
double nanoseconds_of(Trace* volatile& trace) {
  const double start = cpu_seconds();
  for (int i = 0; i < kSpans; ++i) {
    const TraceSpan span(trace, Lane::kCompute, "span", {.bytes = 1, .unit = i});
  }
  return (cpu_seconds() - start) / kSpans * 1e9;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main() {
  std::vector<double> off, waiting, recording;
  for (int i = 0; i < kRepetitions; ++i) {
    Trace trace({.capacity = kSpans + 1});
    Trace* volatile none = nullptr;
    Trace* volatile some = &trace;
    off.push_back(nanoseconds_of(none));
    waiting.push_back(nanoseconds_of(some));
    trace.begin_step(1);
    recording.push_back(nanoseconds_of(some));
    if (trace.kept() != kSpans) {
      std::fprintf(stderr, "trace_span: %zu of %d spans were kept\n", trace.kept(), kSpans);
      return 1;
    }
  }
  std::printf("off %.2f waiting %.2f recording %.2f\n", median(off), median(waiting),
              median(recording));
  return 0;
}

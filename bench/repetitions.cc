#include "repetitions.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

void measure(std::vector<Contender>& list, int repetitions) {
  for (int repetition = -1; repetition < repetitions; ++repetition) {
    for (Contender& contender : list) {
      const auto start = std::chrono::steady_clock::now();
      contender.step();
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      if (repetition >= 0) {  // the first pass warms up
        contender.milliseconds.push_back(took.count());
      }
      // torch's OpenMP threads spin some milliseconds after their work: not on the next one's time.
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double ratio_to(const Contender& twin, const Contender& contender) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < twin.milliseconds.size(); ++i) {
    ratios.push_back(twin.milliseconds[i] / contender.milliseconds[i]);
  }
  return median(ratios);
}

void print_repetitions(const std::vector<Contender>& list) {
  std::printf("\nMilliseconds of each pass:\n\n");
  for (const Contender& contender : list) {
    std::printf("- %s:", contender.name.c_str());
    for (const double time_ms : contender.milliseconds) std::printf(" %.2f", time_ms);
    std::printf("\n");
  }
}

void in_parallel(int threads, std::size_t count,
                 const std::function<void(std::size_t, std::size_t)>& body) {
  constexpr std::size_t kBlock = 32768;
  const std::size_t part = count / static_cast<std::size_t>(threads) / kBlock * kBlock;
  std::vector<std::jthread> others;
  for (int i = 0; i + 1 < threads; ++i) {
    others.emplace_back(body, static_cast<std::size_t>(i) * part, part);
  }
  const std::size_t first = static_cast<std::size_t>(threads - 1) * part;
  body(first, count - first);
}

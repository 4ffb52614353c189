// Contenders timed in turns, repetition by repetition, so that they share the machine's good and
// bad minutes; medians, and medians of the ratios of neighbours in time.
#pragma once

#include <functional>
#include <string>
#include <vector>

struct Contender {
  std::string name;
  std::size_t twin;  // number of the contender it is compared with
  std::function<void()> step;
  std::vector<double> milliseconds = {};
};

// One pass that is not counted, then so many that are.
void measure(std::vector<Contender>& list, int repetitions);
double median(std::vector<double> values);
// Median over the repetitions of time(twin) / time(contender).
double ratio_to(const Contender& twin, const Contender& contender);
void print_repetitions(const std::vector<Contender>& list);

// Calls body(first, size) for `threads` equal parts of whole blocks of 32768 parameters (the last
// may end anywhere), the last one on this thread.
void in_parallel(int threads, std::size_t count,
                 const std::function<void(std::size_t, std::size_t)>& body);

#include "wrapped.h"

#include <sstream>

namespace spillway::aio_bench {
namespace {

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

std::size_t characters(const std::string& text) {
  std::size_t count = 0;
  for (const char c : text) count += continues(c) ? 0 : 1;
  return count;
}

// Takes the first `count` characters off `word`.
std::string cut(std::string& word, std::size_t count) {
  std::size_t end = 0;
  for (std::size_t seen = 0; end < word.size(); ++end) {
    if (!continues(word[end]) && ++seen > count) break;
  }
  std::string head = word.substr(0, end);
  word.erase(0, end);
  return head;
}

}  // namespace

std::vector<std::string> wrapped(const std::string& text, std::size_t columns) {
  std::vector<std::string> lines(1);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    std::string& line = lines.back();
    if (!line.empty() && characters(line) + 1 + characters(word) <= columns) {
      line += ' ' + word;
      continue;
    }
    if (!line.empty()) lines.emplace_back();
    while (characters(word) > columns) {
      lines.back() = cut(word, columns);
      lines.emplace_back();
    }
    lines.back() = word;
  }
  return lines;
}

}  // namespace spillway::aio_bench

#include "tools/spillway/common/error_text.h"

#include <sstream>

namespace spillway::tools {

std::string error_text(const Error& error) {
  if (error.detail.find('\n') == std::string::npos) return error.message();
  Error head = error;
  head.detail.clear();
  std::string text = head.message();
  std::istringstream problems(error.detail);
  for (std::string problem; std::getline(problems, problem);) text += "\n  " + problem;
  return text;
}

}  // namespace spillway::tools

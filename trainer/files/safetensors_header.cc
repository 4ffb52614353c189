#include <spillway/aio/check.h>
#include "trainer/files/safetensors.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "trainer/config/json_document.h"

namespace spillway::trainer {
namespace {

using nlohmann::json;

constexpr std::string_view kMetadata = "__metadata__";
constexpr std::size_t kMostDimensions = 64;

struct DtypeSize {
  std::string_view name;
  std::uint64_t bytes;
};
// Those of whole bytes. What a model's weights are not still has a size, so that it can be passed.
constexpr std::array kDtypes{
    DtypeSize{"F32", 4},    DtypeSize{"BF16", 2}, DtypeSize{"F16", 2},     DtypeSize{"F64", 8},
    DtypeSize{"C64", 8},    DtypeSize{"I64", 8},  DtypeSize{"I32", 4},     DtypeSize{"I16", 2},
    DtypeSize{"I8", 1},     DtypeSize{"U64", 8},  DtypeSize{"U32", 4},     DtypeSize{"U16", 2},
    DtypeSize{"U8", 1},     DtypeSize{"BOOL", 1}, DtypeSize{"F8_E4M3", 1}, DtypeSize{"F8_E5M2", 1},
    DtypeSize{"F8_E8M0", 1}};

// Listens to the parser (nlohmann's SAX interface), takes what a header may hold and stops at the
// first thing that it may not: what is nested deeper is never built.
class HeaderReader {
 public:
  using number_integer_t = json::number_integer_t;
  using number_unsigned_t = json::number_unsigned_t;
  using number_float_t = json::number_float_t;
  using string_t = json::string_t;
  using binary_t = json::binary_t;

  bool null() { return refuse("null stands where no null may"); }
  bool boolean(bool) { return refuse("a truth value stands where none may"); }
  bool number_integer(number_integer_t) { return refuse("a number is below zero"); }
  bool number_float(number_float_t, const string_t&) {
    return refuse("a number is no whole number, or too large");
  }
  bool binary(binary_t&) { return refuse("binary data stands where none may"); }

  bool number_unsigned(number_unsigned_t number) {
    if (place_ == Place::kShape) {
      if (tensor_.shape.size() == kMostDimensions) {
        return refuse("tensor " + text_of(tensor_.name) + " has far too many dimensions");
      }
      tensor_.shape.push_back(number);
      return true;
    }
    if (place_ != Place::kOffsets) return refuse("a number stands where none may");
    if (offsets_ == 2)
      return refuse("data_offsets of " + text_of(tensor_.name) + " are not two numbers");
    (offsets_++ == 0 ? tensor_.begin : tensor_.end) = number;
    return true;
  }
  bool string(string_t& text) {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kTensor || key_ != "dtype") {
      return refuse("a text stands where none may");
    }
    tensor_.dtype = std::move(text);
    return true;
  }
  bool start_object(std::size_t) {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = key_ == kMetadata ? Place::kMetadata : Place::kTensor;
      keys_.clear();
    } else {
      return refuse("an object stands where none may");
    }
    return true;
  }
  bool key(string_t& name) {
    auto& seen = place_ == Place::kTop ? names_ : keys_;
    if (!seen.insert(name).second) return refuse(text_of(name) + " is there twice");
    if (place_ == Place::kTensor && name != "dtype" && name != "shape" && name != "data_offsets") {
      return refuse("tensor " + text_of(tensor_.name) + " has an unknown key " + text_of(name));
    }
    if (place_ == Place::kTop) {
      tensor_ = {};
      tensor_.name = name;
      offsets_ = 0;
    }
    key_ = name;
    return true;
  }
  bool end_object() {
    if (place_ == Place::kTensor) {
      if (keys_.size() != 3 || offsets_ != 2) {
        return refuse("tensor " + text_of(tensor_.name) + " lacks dtype, shape or data_offsets");
      }
      tensors.push_back(std::move(tensor_));
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }
  bool start_array(std::size_t) {
    if (place_ != Place::kTensor || key_ == "dtype")
      return refuse("an array stands where none may");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }
  bool end_array() {
    place_ = Place::kTensor;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) {
    return refuse("it is no JSON at byte " + std::to_string(position));
  }

  std::vector<SafeTensor> tensors;
  std::string problem;

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool refuse(std::string why) {
    if (problem.empty()) problem = std::move(why);
    return false;
  }

  Place place_ = Place::kStart;
  std::set<std::string> names_;
  std::set<std::string> keys_;  // of the object that is read
  std::string key_;
  SafeTensor tensor_;
  int offsets_ = 0;
};

// What is wrong with a tensor by itself; empty: nothing.
std::string problem_of(const SafeTensor& tensor, std::uint64_t data_bytes) {
  std::uint64_t bytes = safetensors_dtype_bytes(tensor.dtype);
  for (const std::uint64_t size : tensor.shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return "tensor " + text_of(tensor.name) + " has too many elements";
    }
  }
  if (tensor.begin > tensor.end || tensor.end > data_bytes) {
    return "tensor " + text_of(tensor.name) + " reaches out of the file";
  }
  if (tensor.end - tensor.begin != bytes) {
    return "tensor " + text_of(tensor.name) + " has " + std::to_string(tensor.end - tensor.begin) +
           " bytes, its shape and dtype " + std::to_string(bytes);
  }
  return {};
}

}  // namespace

std::uint64_t safetensors_dtype_bytes(std::string_view dtype) {
  const auto found = std::ranges::find(kDtypes, dtype, &DtypeSize::name);
  return found == kDtypes.end() ? 0 : found->bytes;
}

Result<std::vector<SafeTensor>> parse_safetensors_header(std::string_view text,
                                                         std::uint64_t data_bytes,
                                                         const std::string& name) {
  const auto refuse = [&](ErrorKind kind, std::string why) {
    return make_error(kind, "read safetensors", name, std::move(why));
  };
  HeaderReader reader;
  json::sax_parse(text, &reader);
  if (!reader.problem.empty()) return refuse(ErrorKind::kInvalid, "header: " + reader.problem);
  std::vector<SafeTensor> tensors = std::move(reader.tensors);
  for (const SafeTensor& tensor : tensors) {
    if (safetensors_dtype_bytes(tensor.dtype) == 0) {
      return refuse(ErrorKind::kUnsupported, "tensor " + text_of(tensor.name) +
                                                 " has an unknown dtype " + text_of(tensor.dtype));
    }
    std::string problem = problem_of(tensor, data_bytes);
    if (!problem.empty()) return refuse(ErrorKind::kInvalid, std::move(problem));
  }
  std::ranges::sort(tensors, {}, [](const SafeTensor& tensor) {
    return std::tie(tensor.begin, tensor.end, tensor.name);
  });
  std::uint64_t at = 0;
  for (const SafeTensor& tensor : tensors) {
    if (tensor.begin != at) {
      return refuse(ErrorKind::kInvalid,
                    "tensor " + text_of(tensor.name) + " begins at byte " +
                        std::to_string(tensor.begin) +
                        (tensor.begin < at ? ", within another one" : ", after bytes of nobody"));
    }
    at = tensor.end;
  }
  if (at != data_bytes) {
    return refuse(ErrorKind::kInvalid,
                  std::to_string(data_bytes - at) + " bytes at the file's end belong to no tensor");
  }
  return tensors;
}

std::string safetensors_header(std::span<const SafeTensor> tensors) {
  nlohmann::ordered_json object;
  object[std::string(kMetadata)] = {{"format", "pt"}};
  std::uint64_t at = 0;
  for (const SafeTensor& tensor : tensors) {
    SPILLWAY_CHECK(tensor.begin == at && tensor.end >= at, "tensors follow each other");
    at = tensor.end;
    object[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {tensor.begin, tensor.end}}};
  }
  std::string text = object.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string head(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) {
    head[i] = static_cast<char>(std::uint64_t{text.size()} >> (8 * i) & 0xff);
  }
  return head + text;
}

}  // namespace spillway::trainer

// TensorMap: which part of which tensor each parameter of a model is, in the files of others.
//
// One map reads and writes: an import takes parameters out of tensors, an export puts them back.
// A projection that lies the other way, a tensor in which several parameters are fused, tiles of a
// matrix and tied tables are all slices. Plain data, no torch.
#pragma once

#include <spillway/aio/error.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace spillway::trainer {

// A parameter, and the part of a tensor that holds it. The tensor is taken as a matrix: its first
// dimension counts rows, the others together columns; one of a single dimension has one column.
struct TensorSlice {
  std::string parameter;   // "transformer.h.3.attn.c_attn.weight", "head.ln_f.bias"
  std::string tensor;      // "transformer.h.3.attn.c_attn.weight", "transformer.ln_f.bias"
  std::uint64_t row0 = 0;  // where in the tensor it begins
  std::uint64_t col0 = 0;
  std::vector<std::int64_t> shape;  // the parameter's
  bool transposed = false;  // the slice is [columns, rows] of the parameter's [rows, columns]

  // Rows and columns that it takes in the tensor.
  std::uint64_t rows() const;
  std::uint64_t columns() const;
};

// A tensor that holds nothing of its own. Files may have it; then it must equal `same_as`.
struct TiedTensor {
  std::string tensor;   // "lm_head.weight"
  std::string same_as;  // "transformer.wte.weight"
  std::string problem;  // what to say when it does not
};

struct TensorMap {
  std::vector<TensorSlice> slices;  // in the order of a checkpoint's parameters
  std::vector<TiedTensor> tied;
  // Of each name that a file uses: the tensor's name here. Empty: one to pass over.
  std::string (*name_of)(const std::string& in_file) = nullptr;  // null: as it is
  // What to add to "there is no tensor ..." for some tensors.
  std::map<std::string, std::string> notes;
};

// The shape of a tensor that these slices make up together: of a single whole one, its own.
// REQUIRES: all of one tensor.
std::vector<std::uint64_t> tensor_shape(const std::vector<const TensorSlice*>& slices);

// A tensor with all its slices.
struct MappedTensor {
  std::string name;
  std::vector<const TensorSlice*> slices;  // into the map
  std::vector<std::uint64_t> shape;
};
// Returns the tensors of `map`, in the order of their first slices.
std::vector<MappedTensor> mapped_tensors(const TensorMap& map);

// kInvalid unless every parameter is there once and the slices of each tensor cover it exactly
// once: names the tensor and the row and column that no slice holds, or two. `name` is what errors
// call the map.
Result<void> check_coverage(const TensorMap& map, const std::string& name);

}  // namespace spillway::trainer

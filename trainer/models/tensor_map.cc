#include <spillway/aio/check.h>
#include <spillway/trainer/tensor_map.h>

#include <algorithm>
#include <set>

namespace spillway::trainer {
namespace {

constexpr const char* kOperation = "map tensors";

std::uint64_t first_dimension(const std::vector<std::int64_t>& shape) {
  return shape.empty() ? 1 : static_cast<std::uint64_t>(shape[0]);
}

std::uint64_t other_dimensions(const std::vector<std::int64_t>& shape) {
  std::uint64_t product = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) product *= static_cast<std::uint64_t>(shape[i]);
  return product;
}

std::string place_text(std::uint64_t row, std::uint64_t column) {
  return "row " + std::to_string(row) + ", column " + std::to_string(column);
}

bool holds(const TensorSlice& slice, std::uint64_t row, std::uint64_t column) {
  return row >= slice.row0 && row - slice.row0 < slice.rows() && column >= slice.col0 &&
         column - slice.col0 < slice.columns();
}

// Where the slices' edges are: between two of them nothing changes, so that a hole or an overlap
// has a corner at one.
struct Edges {
  std::set<std::uint64_t> rows, columns;
};

Edges edges_of(const MappedTensor& tensor) {
  Edges edges{{0}, {0}};
  for (const TensorSlice* slice : tensor.slices) {
    edges.rows.insert({slice->row0, slice->row0 + slice->rows()});
    edges.columns.insert({slice->col0, slice->col0 + slice->columns()});
  }
  edges.rows.erase(std::prev(edges.rows.end()));  // the end of all
  edges.columns.erase(std::prev(edges.columns.end()));
  return edges;
}

std::string problem_of(const MappedTensor& tensor) {
  const Edges edges = edges_of(tensor);
  for (const std::uint64_t row : edges.rows) {
    for (const std::uint64_t column : edges.columns) {
      const TensorSlice* holder = nullptr;
      for (const TensorSlice* slice : tensor.slices) {
        if (!holds(*slice, row, column)) continue;
        if (holder != nullptr) {
          return "'" + holder->parameter + "' and '" + slice->parameter + "' both hold " +
                 place_text(row, column) + " of tensor '" + tensor.name + "'";
        }
        holder = slice;
      }
      if (holder == nullptr) {
        return "no parameter holds " + place_text(row, column) + " of tensor '" + tensor.name + "'";
      }
    }
  }
  return {};
}

}  // namespace

std::uint64_t TensorSlice::rows() const {
  return transposed ? other_dimensions(shape) : first_dimension(shape);
}

std::uint64_t TensorSlice::columns() const {
  return transposed ? first_dimension(shape) : other_dimensions(shape);
}

std::vector<std::uint64_t> tensor_shape(const std::vector<const TensorSlice*>& slices) {
  std::uint64_t rows = 0, columns = 0;
  for (const TensorSlice* slice : slices) {
    rows = std::max(rows, slice->row0 + slice->rows());
    columns = std::max(columns, slice->col0 + slice->columns());
  }
  const TensorSlice& first = *slices.front();
  if (slices.size() == 1 && !first.transposed && first.row0 == 0 && first.col0 == 0) {
    return {first.shape.begin(), first.shape.end()};
  }
  if (first.shape.size() < 2) return {rows};
  return {rows, columns};
}

std::vector<MappedTensor> mapped_tensors(const TensorMap& map) {
  std::vector<MappedTensor> tensors;
  std::map<std::string, std::size_t> numbers;
  for (const TensorSlice& slice : map.slices) {
    const auto [number, is_new] = numbers.emplace(slice.tensor, tensors.size());
    if (is_new) tensors.push_back({slice.tensor, {}, {}});
    tensors[number->second].slices.push_back(&slice);
  }
  for (MappedTensor& tensor : tensors) tensor.shape = tensor_shape(tensor.slices);
  return tensors;
}

Result<void> check_coverage(const TensorMap& map, const std::string& name) {
  const auto refuse = [&](std::string why) {
    return make_error(ErrorKind::kInvalid, kOperation, name, std::move(why));
  };
  std::set<std::string> parameters;
  for (const TensorSlice& slice : map.slices) {
    if (!parameters.insert(slice.parameter).second) {
      return refuse("parameter '" + slice.parameter + "' is there twice");
    }
    if (slice.transposed && slice.shape.size() != 2) {
      return refuse("parameter '" + slice.parameter + "' is no matrix, and cannot be transposed");
    }
  }
  for (const MappedTensor& tensor : mapped_tensors(map)) {
    if (std::string problem = problem_of(tensor); !problem.empty()) {
      return refuse(std::move(problem));
    }
  }
  return {};
}

}  // namespace spillway::trainer

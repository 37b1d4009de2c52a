// Reads the fixtures that RecBole wrote (README.md here) with the C library of HDF5, and makes stores and batches of them.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gru4rec/data/batch.h"
#include "gru4rec/model/gru4rec.h"
#include "support/folders.h"
#include "support/store_example.h"

namespace gru4rec::testing {

inline std::filesystem::path fixture_path(const std::string& name) {
  return source_folder() / "tests/golden" / name;
}

// Fields of the lines of a table without header.
inline std::vector<std::vector<std::string>> fixture_table(const std::string& name) {
  std::ifstream in(fixture_path(name));
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    rows.emplace_back();
    for (std::string field; std::getline(fields, field, '\t');) rows.back().push_back(field);
  }
  if (rows.empty()) throw std::runtime_error("no fixture " + name);
  return rows;
}

template <typename T>
hid_t memory_type() {
  if constexpr (std::is_same_v<T, float>) return H5T_NATIVE_FLOAT;
  if constexpr (std::is_same_v<T, double>) return H5T_NATIVE_DOUBLE;
  if constexpr (std::is_same_v<T, int64_t>) return H5T_NATIVE_INT64;
}

// An HDF5 file of fixtures. Numbers are converted to the type asked for: float, double, int64_t.
class FixtureFile {
 public:
  explicit FixtureFile(const std::string& name) : id_(H5Fopen(fixture_path(name).c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)) {
    if (id_ < 0) throw std::runtime_error("no fixture " + name);
  }
  ~FixtureFile() { H5Fclose(id_); }
  FixtureFile(const FixtureFile&) = delete;
  FixtureFile& operator=(const FixtureFile&) = delete;

  template <typename T>
  std::vector<T> read(const std::string& name) const {
    const hid_t set = H5Dopen2(id_, name.c_str(), H5P_DEFAULT);
    if (set < 0) throw std::runtime_error("no array " + name);
    const hid_t space = H5Dget_space(set);
    std::vector<T> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
    const herr_t done = H5Dread(set, memory_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Sclose(space);
    H5Dclose(set);
    if (done < 0) throw std::runtime_error("cannot read array " + name);
    return values;
  }

  template <typename T>
  T attribute(const std::string& group, const std::string& name) const {
    const hid_t attribute = H5Aopen_by_name(id_, group.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT);
    T value{};
    if (attribute < 0 || H5Aread(attribute, memory_type<T>(), &value) < 0) throw std::runtime_error("no attribute " + name);
    H5Aclose(attribute);
    return value;
  }

  // Lists of items: `group/items` cut at `group/offsets`.
  std::vector<std::vector<int64_t>> lists(const std::string& group) const {
    const auto items = read<int64_t>(group + "/items"), offsets = read<int64_t>(group + "/offsets");
    std::vector<std::vector<int64_t>> lists;
    for (size_t i = 0; i + 1 < offsets.size(); ++i)
      lists.emplace_back(&items[offsets[i]], &items[offsets[i]] + (offsets[i + 1] - offsets[i]));
    return lists;
  }

  // RecBole counts the padding item.
  ModelShape shape(const std::string& group) const {
    ModelShape shape;
    shape.catalogue = attribute<int64_t>(group, "n_items") - 1;
    shape.embedding_size = attribute<int64_t>(group, "embedding_size");
    shape.hidden_size = attribute<int64_t>(group, "hidden_size");
    shape.num_layers = attribute<int64_t>(group, "num_layers");
    shape.dropout_prob = 0;
    return shape;
  }

  at::Tensor tensor(const std::string& name, at::IntArrayRef sizes) const { return at::tensor(read<float>(name)).view(sizes); }

  // RecBole's parameters into a model, by name.
  void load(const std::string& group, const Gru4Rec& model) const {
    for (const ParameterInfo& info : model.layout().parameters())
      model.parameter(info.name).copy_(tensor(group + "/" + info.name, info.shape));
  }

 private:
  hid_t id_;
};

// Samples as sessions of a store: inputs and the target behind them.
class SampleStore {
 public:
  using Lists = std::vector<std::vector<int64_t>>;
  SampleStore(const std::filesystem::path& folder, const Lists& inputs, const std::vector<int64_t>& targets, int64_t catalogue)
      : store_(write(folder, inputs, targets, static_cast<uint64_t>(catalogue))), items_(store_) {}

  // The samples [first, last), each read whole, its last item the only target.
  Batch batch(uint64_t first, uint64_t last) {
    std::vector<Segment> segments;
    const auto shapes = store_.shapes(first, last - first);
    for (uint64_t i = 0; i < shapes.size(); ++i)
      segments.push_back({first + i, shapes[i].first_event, 0, shapes[i].events, shapes[i].events - 1});
    return pack(segments, items_);
  }

 private:
  static std::filesystem::path write(const std::filesystem::path& folder, const Lists& inputs,
                                     const std::vector<int64_t>& targets, uint64_t catalogue) {
    std::vector<ExampleSession> sessions;
    for (size_t i = 0; i < inputs.size(); ++i) {
      ExampleSession session{"s" + std::to_string(i), {inputs[i].begin(), inputs[i].end()}, {}, 0, 0};
      session.items.push_back(static_cast<uint32_t>(targets[i]));
      session.times.assign(session.items.size(), static_cast<int64_t>(i));
      session.train_end = session.valid_end = static_cast<uint32_t>(session.items.size());
      sessions.push_back(session);
    }
    write_example(folder, sessions, 1, catalogue);
    return folder;
  }

  Store store_;
  ItemReader items_;
};

}  // namespace gru4rec::testing

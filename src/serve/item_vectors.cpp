#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <span>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/hdf5.h"
#include "gru4rec/base/hdf5_texts.h"
#include "gru4rec/serve/exports.h"
#include "gru4rec/train/recbole_state.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

// Rows 1…catalogue of the table: all but the padding row.
struct ItemVectors {
  explicit ItemVectors(const Gru4Rec& model)
      : items(static_cast<uint64_t>(model.shape().catalogue)),
        size(static_cast<uint64_t>(model.shape().embedding_size)),
        values(model.parameters().subspan(static_cast<size_t>(model.layout().table().offset) + size, items * size)) {}
  uint64_t items, size;
  std::span<const float> values;
};

// A NumPy file of version 1.0 begins with this: magic, version, length of the rest, a Python literal, and blanks up to a
// multiple of 64 bytes.
std::string npy_head(uint64_t rows, uint64_t columns) {
  constexpr size_t kBefore = 10, kAlignment = 64;
  std::string literal = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  const size_t whole = (kBefore + literal.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  literal.resize(whole - kBefore - 1, ' ');
  literal += '\n';
  std::string head("\x93NUMPY\x01\x00", 8);
  head += static_cast<char>(literal.size() & 0xff);
  head += static_cast<char>(literal.size() >> 8);
  return head + literal;
}

}  // namespace

void export_hdf5(const ServedModel& served, const fs::path& output) {
  const ItemVectors vectors(*served.model);
  FlatTexts names;
  for (const std::string& name : served.catalogue().item_names) names.add(name);
  AtomicFile out(output);
  Hdf5File file = Hdf5File::create(out.path());
  write_texts(file, "/item_names", "/item_name_offsets", names);
  file.write("/item_embeddings", vectors.values, {vectors.items, vectors.size});
  file.close();
  out.commit();
}

void export_numpy(const ServedModel& served, const fs::path& output) {
  const ItemVectors vectors(*served.model);
  AtomicFile out(output);
  const std::string head = npy_head(vectors.items, vectors.size);
  out.write(head.data(), head.size());
  out.write(vectors.values.data(), vectors.values.size_bytes());
  write_item_ids(item_ids_beside(output), served.catalogue().item_names);
  out.commit();
}

}  // namespace gru4rec

// A thin layer over the C library of HDF5 for the few things our files consist of: groups, contiguous arrays of plain
// numbers, scalar and fixed-length text attributes. Never chunks, filters, variable-length types or links to other files.
//
// Files are written so that equal content gives equal bytes: a user block of 512 bytes, bounds of the file format fixed at 1.8
// (every HDF5 since can read it), no time stamps. They are opened without file locks.
//
// HDF5 is not thread safe. Every function here takes one lock for the whole process, so several threads may use
// *different* Hdf5File objects; one object belongs to one thread. Local.
//
// Errors: SurroundingsError where a file cannot be written, UserError where one that is read is not what it has to be; both
// with the innermost message of the library. It prints nothing by itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/base/sealed_file.h"

namespace gru4rec {

enum class ElementType : uint32_t { uint8, uint32, uint64, int64, float32, float64 };

size_t element_bytes(ElementType type);
std::string element_name(ElementType type);  // as numpy calls it: "uint32", "float64"

template <typename T>
constexpr ElementType element_type() {
  using U = std::remove_const_t<T>;
  if constexpr (std::is_same_v<U, uint8_t>) return ElementType::uint8;
  if constexpr (std::is_same_v<U, uint32_t>) return ElementType::uint32;
  if constexpr (std::is_same_v<U, uint64_t>) return ElementType::uint64;
  if constexpr (std::is_same_v<U, int64_t>) return ElementType::int64;
  if constexpr (std::is_same_v<U, float>) return ElementType::float32;
  if constexpr (std::is_same_v<U, double>) return ElementType::float64;
}

// An array as a file describes it. Made only after its size was held against the size of the file.
struct ArrayInfo {
  ElementType type = ElementType::uint8;
  std::vector<uint64_t> dims;
  Extent place;  // {0, 0} for an array without elements
  uint64_t elements() const;
};

//   Hdf5File file = Hdf5File::create(out.path());           // out: an AtomicFile
//   file.write("/state/step", std::span<const int64_t>(&step, 1));
//   const Extent place = file.write("/state/table", std::span<const float>(table), {rows, columns});
//   file.write_attribute("/state", "learner", std::string("adam"));
//   file.close();                                           // errors of the last flush surface here
//   seal_file(out.path(), FileKind::checkpoint, {place});   // the table has a digest of its own
//   out.commit();
class Hdf5File {
 public:
  // Either writes a new file, replacing the content of one that is there, or reads one: a file that is being written cannot be
  // read. What create() made is no file before close() returned.
  static Hdf5File create(const std::filesystem::path& path);
  static Hdf5File open(const std::filesystem::path& path);
  ~Hdf5File();
  Hdf5File(Hdf5File&&) noexcept;
  Hdf5File& operator=(Hdf5File&&) noexcept;

  // Completes the file; nothing else may be called after it. Does not fsync.
  void close();
  const std::filesystem::path& path() const;

  // Names are absolute paths, "/state/step"; missing groups on the way are made. Arrays from 1 MiB on pass the page cache
  // (base/direct_file.h). Returns the place of the array in the file.
  void make_group(const std::string& name);
  template <typename T>
  Extent write(const std::string& name, std::span<const T> values, const std::vector<uint64_t>& dims) {
    return write_array(name, element_type<T>(), values.data(), values.size(), dims);
  }
  template <typename T>
  Extent write(const std::string& name, std::span<const T> values) {
    return write<T>(name, values, {values.size()});
  }
  template <typename T>
  Extent write(const std::string& name, const std::vector<T>& values) {
    return write<T>(name, std::span<const T>(values));
  }
  void write_text(const std::string& name, std::string_view text);  // as a uint8 array; for texts of any length

  // Makes an array and leaves its bytes to the caller, who writes them at the returned place, before or after close().
  Extent reserve(const std::string& name, ElementType type, const std::vector<uint64_t>& dims);
  bool has(const std::string& name) const;
  std::vector<std::string> names(const std::string& group) const;  // of its direct members, sorted
  ArrayInfo array(const std::string& name) const;

  // Reads a whole array of this element type; dims, where given, must agree too.
  template <typename T>
  std::vector<T> read(const std::string& name) const {
    const ArrayInfo info = expect_array(name, element_type<T>());
    std::vector<T> values(info.elements());
    read_array(name, info, values.data());
    return values;
  }
  template <typename T>
  void read(const std::string& name, std::span<T> out, const std::vector<uint64_t>& dims) const {
    const ArrayInfo info = expect_array(name, element_type<T>());
    expect_dims(name, info, dims, out.size());
    read_array(name, info, out.data());
  }
  std::string read_text(const std::string& name) const;

  // Attributes of a group or array: scalars of the types above. Writing replaces.
  template <typename T>
  requires std::is_arithmetic_v<T>
  void write_attribute(const std::string& object, const std::string& name, T value) {
    write_number(object, name, element_type<T>(), &value);
  }
  void write_attribute(const std::string& object, const std::string& name, const std::string& text);
  bool has_attribute(const std::string& object, const std::string& name) const;
  template <typename T>
  T read_attribute(const std::string& object, const std::string& name) const {
    if constexpr (std::is_same_v<T, std::string>) {
      return read_text_attribute(object, name);
    } else {
      T value{};
      read_number(object, name, element_type<T>(), &value);
      return value;
    }
  }

 private:
  struct Impl;
  explicit Hdf5File(std::unique_ptr<Impl> impl);
  void make_parents(const std::string& name);

  Extent write_array(const std::string& name, ElementType type, const void* values, uint64_t count,
                     const std::vector<uint64_t>& dims);
  ArrayInfo expect_array(const std::string& name, ElementType type) const;
  void expect_dims(const std::string& name, const ArrayInfo& info, const std::vector<uint64_t>& dims, uint64_t room) const;
  void read_array(const std::string& name, const ArrayInfo& info, void* values) const;
  void write_number(const std::string& object, const std::string& name, ElementType type, const void* value);
  void read_number(const std::string& object, const std::string& name, ElementType type, void* value) const;
  std::string read_text_attribute(const std::string& object, const std::string& name) const;

  std::unique_ptr<Impl> impl_;
};

}  // namespace gru4rec

#include "gru4rec/base/hdf5.h"

#include <fcntl.h>
#include <hdf5.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>
#include <sstream>
#include <utility>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/direct_file.h"
#include "gru4rec/base/version.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

std::recursive_mutex g_library;  // HDF5 is not thread safe

// Holds the library for one call, and switches its printing of errors off on first use.
class Library {
 public:
  Library() : lock_(g_library) {
    static const herr_t quiet = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    static_cast<void>(quiet);
  }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

// An HDF5 identifier that is closed by the function it came with.
class Id {
 public:
  using Close = herr_t (*)(hid_t);
  Id(hid_t id, Close close) : id_(id), close_(close) {}
  ~Id() {
    if (id_ >= 0) close_(id_);
  }
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Id& operator=(Id&&) = delete;
  hid_t get() const { return id_; }
  hid_t release() { return std::exchange(id_, -1); }
  explicit operator bool() const { return id_ >= 0; }

 private:
  hid_t id_;
  Close close_;
};

// The innermost entry of the error stack: the cause, without the path the library took to it.
std::string library_error() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned, const H5E_error2_t* entry, void* out) -> herr_t {
        auto& cause = *static_cast<std::string*>(out);
        if (cause.empty() && entry->desc) cause = entry->desc;
        return 0;
      },
      &text);
  H5Eclear2(H5E_DEFAULT);
  return text.empty() ? "HDF5 gives no reason" : text;
}

// The library writes "… errno = 28, error message = 'No space left on device', …" where the system refused.
std::optional<int> errno_in(const std::string& text) {
  const size_t at = text.find("errno = ");
  if (at == std::string::npos) return std::nullopt;
  int number = 0;
  return std::istringstream(text.substr(at + 8)) >> number ? std::optional(number) : std::nullopt;
}

// Beyond the first few bytes HDF5 writes into memory only.
[[noreturn]] void refuse_write(const fs::path& path, const std::string& what) {
  const std::string cause = library_error();
  if (const auto number = errno_in(cause)) throw_io_error("write", path, *number);
  throw SurroundingsError("cannot prepare {} of {}: HDF5 says: {}. Check that memory is left.", what, path.string(), cause);
}

[[noreturn]] void refuse_read(const fs::path& path, const std::string& what) {
  const std::string cause = library_error();
  if (const auto number = errno_in(cause)) throw_io_error("read " + what + " of", path, *number);
  throw UserError("cannot read {} of {}: HDF5 says: {}. Write the file again as docs/formats.md describes it.", what,
                  path.string(), cause);
}

hid_t native(ElementType type) {
  switch (type) {
    case ElementType::uint8:
      return H5T_STD_U8LE;
    case ElementType::uint32:
      return H5T_STD_U32LE;
    case ElementType::uint64:
      return H5T_STD_U64LE;
    case ElementType::int64:
      return H5T_STD_I64LE;
    case ElementType::float32:
      return H5T_IEEE_F32LE;
    case ElementType::float64:
      return H5T_IEEE_F64LE;
  }
  throw BugError("element type {} is unknown", static_cast<uint32_t>(type));
}

constexpr ElementType kTypes[] = {ElementType::uint8, ElementType::uint32,  ElementType::uint64,
                                  ElementType::int64, ElementType::float32, ElementType::float64};

std::optional<ElementType> type_of(hid_t type) {
  for (ElementType candidate : kTypes) {
    if (H5Tequal(type, native(candidate)) > 0) return candidate;
  }
  return std::nullopt;
}

std::string dims_text(const std::vector<uint64_t>& dims) {
  std::string text;
  for (uint64_t size : dims) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

// Bytes of an array of this shape; the largest number there is where the product does not fit.
uint64_t saturated_bytes(ElementType type, const std::vector<uint64_t>& dims) {
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return 0;
  uint64_t bytes = element_bytes(type);
  for (uint64_t size : dims) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return UINT64_MAX;
  }
  return bytes;
}

Id make_space(const std::vector<uint64_t>& dims) {
  if (dims.empty()) return {H5Screate(H5S_SCALAR), H5Sclose};
  const std::vector<hsize_t> sizes(dims.begin(), dims.end());
  return {H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose};
}

// No locks, and a file format that does not change with the version of the library.
Id access_list() {
  Id list(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_libver_bounds(list.get(), H5F_LIBVER_V18, H5F_LIBVER_V18);
  H5Pset_fclose_degree(list.get(), H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
  H5Pset_file_locking(list.get(), false, true);
#endif
  return list;
}

}  // namespace

size_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::uint8:
      return 1;
    case ElementType::uint32:
    case ElementType::float32:
      return 4;
    default:
      return 8;
  }
}

std::string element_name(ElementType type) {
  static constexpr const char* kNames[] = {"uint8", "uint32", "uint64", "int64", "float32", "float64"};
  return kNames[static_cast<uint32_t>(type)];
}

uint64_t ArrayInfo::elements() const {
  uint64_t product = 1;
  for (uint64_t size : dims) product *= size;
  return product;
}

namespace {

// A file that is being written. HDF5 itself works on an anonymous file in memory, because a disk that is full makes it leave
// broken handles behind that crash the process at its end (1.10.8). Only metadata is in there: arrays have their places, but go
// straight to the disk, and so does the metadata when the library has closed its file without any chance of failing.
struct Writing {
  explicit Writing(fs::path target)
      : path(std::move(target)),
        disk(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)),
        memory(::memfd_create("hdf5", MFD_CLOEXEC)) {
    const int failed = errno;
    if (disk < 0 || memory < 0) close_both();
    if (disk < 0) throw_io_error("create", path, failed);
    if (memory < 0) throw SurroundingsError("cannot make a file in memory: {}. Check that memory is left.", errno_text(failed));
    direct.emplace(path, disk);
  }
  ~Writing() { close_both(); }
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;

  // Puts the file in memory under the descriptor the library has opened `path` with, and what it has written so far into it.
  void take_over(hid_t file) const {
    int* descriptor = nullptr;  // of the library's default driver
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, reinterpret_cast<void**>(&descriptor)) < 0 || descriptor == nullptr) {
      throw SurroundingsError("HDF5 opens {} with a driver without a file descriptor. Unset HDF5_DRIVER.", path.string());
    }
    copy(disk, memory, 0, size_of(disk));
    if (::dup2(memory, *descriptor) < 0) throw_io_error("take over", path, errno);
  }

  // Everything but the arrays, from memory to disk.
  void copy_metadata() {
    const uint64_t end = size_of(memory);
    if (::ftruncate(disk, static_cast<off_t>(end)) != 0) throw_io_error("write", path, errno);
    std::sort(arrays.begin(), arrays.end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
    uint64_t at = 0;
    for (const Extent& array : arrays) {
      copy(memory, disk, at, array.offset);
      at = array.offset + array.bytes;
    }
    copy(memory, disk, at, end);
  }

  void write(const void* values, const Extent& place) { direct->write(values, place.bytes, place.offset); }

  fs::path path;
  int disk, memory;
  std::vector<Extent> arrays;

 private:
  std::optional<DirectFile> direct;

  void copy(int source, int target, uint64_t from, uint64_t to) const {
    std::vector<char> buffer(size_t{64} << 10);
    while (from < to) {
      const size_t part = std::min<uint64_t>(buffer.size(), to - from);
      read_at(source, buffer.data(), part, from, path);
      write_at(target, buffer.data(), part, from, path);
      from += part;
    }
  }
  uint64_t size_of(int fd) const {
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw_io_error("look at the size of", path, errno);
    return static_cast<uint64_t>(status.st_size);
  }
  void close_both() const {
    if (disk >= 0) ::close(disk);
    if (memory >= 0) ::close(memory);
  }
};

}  // namespace

struct Hdf5File::Impl {
  Impl(fs::path file_path, hid_t file_id, uint64_t size) : path(std::move(file_path)), id(file_id), bytes(size) {}
  ~Impl() {
    const Library held;
    if (id >= 0) H5Fclose(id);
  }
  fs::path path;
  hid_t id;
  uint64_t bytes;                    // size of the file that is read; no array may claim more
  std::unique_ptr<Writing> writing;  // of a file that is written

  Id open_object(const std::string& name) const {
    Id object(H5Oopen(id, name.c_str(), H5P_DEFAULT), H5Oclose);
    if (!object) throw UserError("{} has no '{}'. Write the file again as docs/formats.md describes it.", path.string(), name);
    return object;
  }
  Id open_array(const std::string& name) const {
    Id set(H5Dopen2(id, name.c_str(), H5P_DEFAULT), H5Dclose);
    if (!set)
      throw UserError("{} has no array '{}'. Write the file again as docs/formats.md describes it.", path.string(), name);
    return set;
  }
  Id open_attribute(const std::string& object, const std::string& name) const {
    const Id holder = open_object(object);
    Id attribute(H5Aopen(holder.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
    if (!attribute) {
      throw UserError("{} has no attribute '{}' at '{}'. Write the file again as docs/formats.md describes it.", path.string(),
                      name, object);
    }
    return attribute;
  }
};

Hdf5File::Hdf5File(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Hdf5File::~Hdf5File() = default;
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&&) noexcept = default;
const fs::path& Hdf5File::path() const { return impl_->path; }

Hdf5File Hdf5File::create(const fs::path& path) {
  const Library held;
  auto writing = std::make_unique<Writing>(path);
  const Id creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_userblock(creation.get(), kUserBlockBytes);
  H5Pset_obj_track_times(creation.get(), false);  // of the root group
  const Id access = access_list();
  const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get());
  if (id < 0) refuse_write(path, "the structure");
  auto impl = std::make_unique<Impl>(path, id, UINT64_MAX);
  writing->take_over(id);
  impl->writing = std::move(writing);
  return Hdf5File(std::move(impl));
}

Hdf5File Hdf5File::open(const fs::path& path) {
  const Library held;
  std::error_code error;
  const uint64_t bytes = fs::file_size(path, error);
  if (error) throw UserError("cannot open {}: {}. Check the path.", path.string(), error.message());
  const Id access = access_list();
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get());
  if (id < 0) refuse_read(path, "the HDF5 structure");
  return Hdf5File(std::make_unique<Impl>(path, id, bytes));
}

void Hdf5File::close() {
  const Library held;
  if (H5Fclose(std::exchange(impl_->id, -1)) < 0) refuse_write(impl_->path, "the metadata");
  if (!impl_->writing) return;
  impl_->writing->copy_metadata();
  impl_->writing.reset();
}

void Hdf5File::make_group(const std::string& name) {
  const Library held;
  make_parents(name);
  const Id creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation.get(), false);
  const Id group(H5Gcreate2(impl_->id, name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Gclose);
  if (!group) refuse_write(impl_->path, "group " + name);
}

// Not left to the library, which would stamp them with the time.
void Hdf5File::make_parents(const std::string& name) {
  const size_t slash = name.rfind('/');
  if (slash != std::string::npos && slash > 0 && !has(name.substr(0, slash))) make_group(name.substr(0, slash));
}

Extent Hdf5File::reserve(const std::string& name, ElementType type, const std::vector<uint64_t>& dims) {
  const Library held;
  const Id creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation.get(), false);
  H5Pset_layout(creation.get(), H5D_CONTIGUOUS);
  H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER);
  make_parents(name);
  const Id space = make_space(dims);
  const Id set(H5Dcreate2(impl_->id, name.c_str(), native(type), space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
               H5Dclose);
  if (!set) refuse_write(impl_->path, "array " + name);
  const uint64_t bytes = ArrayInfo{type, dims, {}}.elements() * element_bytes(type);
  if (bytes == 0) return {};
  const haddr_t offset = H5Dget_offset(set.get());
  if (offset == HADDR_UNDEF) refuse_write(impl_->path, "array " + name);
  impl_->writing->arrays.push_back({offset, bytes});
  return {offset, bytes};
}

Extent Hdf5File::write_array(const std::string& name, ElementType type, const void* values, uint64_t count,
                             const std::vector<uint64_t>& dims) {
  const Library held;
  if (ArrayInfo{type, dims, {}}.elements() != count) {
    throw BugError("array {} of shape {} was given {} elements", name, dims_text(dims), count);
  }
  const Extent place = reserve(name, type, dims);
  impl_->writing->write(values, place);
  return place;
}

void Hdf5File::write_text(const std::string& name, std::string_view text) {
  write_array(name, ElementType::uint8, text.data(), text.size(), {text.size()});
}

bool Hdf5File::has(const std::string& name) const {
  const Library held;
  if (name == "/") return true;
  for (size_t slash = name.find('/', 1); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    if (H5Lexists(impl_->id, name.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return false;
  }
  return H5Lexists(impl_->id, name.c_str(), H5P_DEFAULT) > 0;
}

std::vector<std::string> Hdf5File::names(const std::string& group) const {
  const Library held;
  const Id holder(H5Gopen2(impl_->id, group.c_str(), H5P_DEFAULT), H5Gclose);
  if (!holder) throw UserError("{} has no group '{}'. Write it again as docs/formats.md describes it.", path().string(), group);
  std::vector<std::string> found;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  if (H5Literate(holder.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect, &found) < 0)
    refuse_read(path(), "group " + group);
  std::sort(found.begin(), found.end());
  return found;
}

ArrayInfo Hdf5File::array(const std::string& name) const {
  const Library held;
  const Id set = impl_->open_array(name);
  const Id type(H5Dget_type(set.get()), H5Tclose);
  const Id space(H5Dget_space(set.get()), H5Sclose);
  const Id creation(H5Dget_create_plist(set.get()), H5Pclose);
  const auto known = type_of(type.get());
  if (!known) {
    throw UserError(
        "array {} of {} has a type that is not read. Write it as numpy uint8, uint32, uint64, int64, float32 or float64, "
        "little-endian.",
        name, path().string());
  }
  if (H5Pget_layout(creation.get()) != H5D_CONTIGUOUS || H5Pget_external_count(creation.get()) > 0) {
    throw UserError("array {} of {} is not stored in one piece. Write it without chunks, compression and maxshape.", name,
                    path().string());
  }
  hsize_t sizes[H5S_MAX_RANK];
  const int rank = H5Sget_simple_extent_dims(space.get(), sizes, nullptr);
  if (rank < 0 || H5Sget_simple_extent_type(space.get()) == H5S_NULL) refuse_read(path(), "the shape of array " + name);
  ArrayInfo info{*known, {sizes, sizes + rank}, {}};
  const uint64_t bytes = saturated_bytes(*known, info.dims);
  const uint64_t limit = impl_->bytes;
  if (bytes > limit) {
    throw UserError(
        "array {} of {} claims shape {}, more than the {} bytes of the file. It is damaged: copy or write it again.", name,
        path().string(), dims_text(info.dims), limit);
  }
  if (bytes == 0) return info;
  info.place = {H5Dget_offset(set.get()), bytes};
  if (info.place.offset == HADDR_UNDEF) {
    throw UserError("array {} of {} has a shape but no data. Write its elements.", name, path().string());
  }
  if (info.place.offset > limit || info.place.bytes > limit - info.place.offset) {
    throw UserError("array {} of {} lies beyond the end of the file. It is damaged: copy or write it again.", name,
                    path().string());
  }
  return info;
}

ArrayInfo Hdf5File::expect_array(const std::string& name, ElementType type) const {
  ArrayInfo info = array(name);
  if (info.type != type) {
    throw UserError("array {} of {} has type {}, it has to be {}. Write it again with that type.", name, path().string(),
                    element_name(info.type), element_name(type));
  }
  return info;
}

void Hdf5File::expect_dims(const std::string& name, const ArrayInfo& info, const std::vector<uint64_t>& dims,
                           uint64_t room) const {
  if (info.dims != dims) {
    throw UserError("array {} of {} has shape {}, it has to be {}. Use a file that fits, or write it again.", name,
                    path().string(), dims_text(info.dims), dims_text(dims));
  }
  if (info.elements() != room) throw BugError("array {} has {} elements, there is room for {}", name, info.elements(), room);
}

void Hdf5File::read_array(const std::string& name, const ArrayInfo& info, void* values) const {
  const Library held;
  if (info.elements() == 0) return;
  const Id set = impl_->open_array(name);
  if (H5Dread(set.get(), native(info.type), H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) refuse_read(path(), "array " + name);
}

std::string Hdf5File::read_text(const std::string& name) const {
  const std::vector<uint8_t> bytes = read<uint8_t>(name);
  return {bytes.begin(), bytes.end()};
}

void Hdf5File::write_number(const std::string& object, const std::string& name, ElementType type, const void* value) {
  const Library held;
  const Id holder = impl_->open_object(object);
  if (H5Aexists(holder.get(), name.c_str()) > 0) H5Adelete(holder.get(), name.c_str());
  const Id space = make_space({});
  const Id attribute(H5Acreate2(holder.get(), name.c_str(), native(type), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute || H5Awrite(attribute.get(), native(type), value) < 0) refuse_write(impl_->path, "attribute " + name);
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name, const std::string& text) {
  const Library held;
  const Id holder = impl_->open_object(object);
  if (H5Aexists(holder.get(), name.c_str()) > 0) H5Adelete(holder.get(), name.c_str());
  const Id space = make_space({});
  const Id type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), std::max<size_t>(1, text.size()));
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const Id attribute(H5Acreate2(holder.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute || H5Awrite(attribute.get(), type.get(), text.c_str()) < 0) refuse_write(impl_->path, "attribute " + name);
}

bool Hdf5File::has_attribute(const std::string& object, const std::string& name) const {
  const Library held;
  const Id holder = impl_->open_object(object);
  return H5Aexists(holder.get(), name.c_str()) > 0;
}

void Hdf5File::read_number(const std::string& object, const std::string& name, ElementType type, void* value) const {
  const Library held;
  const Id attribute = impl_->open_attribute(object, name);
  const Id space(H5Aget_space(attribute.get()), H5Sclose);
  const Id found(H5Aget_type(attribute.get()), H5Tclose);
  if (H5Sget_simple_extent_npoints(space.get()) != 1 || H5Tequal(found.get(), native(type)) <= 0) {
    throw UserError("attribute '{}' at '{}' of {} has to be one number of type {}. Write it as numpy.{}(value).", name, object,
                    path().string(), element_name(type), element_name(type));
  }
  if (H5Aread(attribute.get(), native(type), value) < 0) refuse_read(path(), "attribute " + name);
}

std::string Hdf5File::read_text_attribute(const std::string& object, const std::string& name) const {
  const Library held;
  const Id attribute = impl_->open_attribute(object, name);
  const Id space(H5Aget_space(attribute.get()), H5Sclose);
  const Id type(H5Aget_type(attribute.get()), H5Tclose);
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) > 0 ||
      H5Sget_simple_extent_npoints(space.get()) != 1) {
    throw UserError("attribute '{}' at '{}' of {} has to be one text of fixed length. Write it as numpy.bytes_(text).", name,
                    object, path().string());
  }
  const size_t bytes = H5Tget_size(type.get());
  if (bytes > impl_->bytes) {
    throw UserError(
        "attribute '{}' at '{}' of {} claims {} bytes, more than the file has. It is damaged: copy or write it again.", name,
        object, path().string(), bytes);
  }
  std::string text(bytes, '\0');
  if (H5Aread(attribute.get(), type.get(), text.data()) < 0) refuse_read(path(), "attribute " + name);
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

std::string hdf5_version() {
  const Library library;
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

}  // namespace gru4rec

# LibTorch, from a PyPI wheel or an unpacked archive, with or without nvcc: targets LibTorch::cpu and LibTorch::torch.
#
#   LIBTORCH_ROOT   folder that holds include/torch and lib/libtorch_cpu.so; a variable of CMake or of the environment. By
#                   default the wheel that launch/setup.sh installs: .deps/venv, with GRU4REC_CUDA .deps/venv-cuda first.
#   GRU4REC_CUDA    LibTorch::torch also links the CUDA part, and finds the headers of the CUDA runtime.
#
# TorchConfig.cmake is not used: that of a CUDA build asks for a CUDA toolkit even where only the CPU libraries are linked.
# That programs of this compiler link with it (C++ ABI, architecture) is checked once, when CMake configures.
set(_torch_root ${LIBTORCH_ROOT})
if(NOT _torch_root)
  set(_torch_root $ENV{LIBTORCH_ROOT})
endif()
if(NOT _torch_root)
  file(GLOB _torch_root ${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch)
  file(GLOB _torch_cuda_root ${PROJECT_SOURCE_DIR}/.deps/venv-cuda/lib/python3*/site-packages/torch)
  if(GRU4REC_CUDA)
    list(PREPEND _torch_root ${_torch_cuda_root})
  else()
    list(APPEND _torch_root ${_torch_cuda_root})
  endif()
endif()

# What an earlier run found is forgotten when it lies elsewhere: a new LIBTORCH_ROOT takes effect in an old build folder.
if(LibTorch_FOUND_IN AND NOT LibTorch_FOUND_IN STREQUAL "${_torch_root}")
  unset(LibTorch_INCLUDE_DIR CACHE)
  unset(LibTorch_CUDA_INCLUDE_DIR CACHE)
  unset(LibTorch_LINKS CACHE)
  foreach(_name torch_cpu c10 torch_cuda c10_cuda)
    unset(LibTorch_${_name}_LIBRARY CACHE)
  endforeach()
endif()
set(LibTorch_FOUND_IN "${_torch_root}" CACHE INTERNAL "")

find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/all.h HINTS ${_torch_root} PATH_SUFFIXES include NO_DEFAULT_PATH)
if(LibTorch_INCLUDE_DIR)
  cmake_path(GET LibTorch_INCLUDE_DIR PARENT_PATH LibTorch_ROOT_DIR)
  set(_version_header ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h)  # there since 2.9
  if(NOT EXISTS ${_version_header})
    set(_version_header ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h)
  endif()
  set(_version)
  foreach(_part MAJOR MINOR PATCH)
    file(STRINGS ${_version_header} _line REGEX "#define TORCH_VERSION_${_part} [0-9]+")
    string(REGEX MATCH "[0-9]+$" _number "${_line}")
    list(APPEND _version ${_number})
  endforeach()
  list(JOIN _version . LibTorch_VERSION)
  foreach(_name torch_cpu c10 torch_cuda c10_cuda)
    find_library(LibTorch_${_name}_LIBRARY ${_name} HINTS ${LibTorch_ROOT_DIR}/lib NO_DEFAULT_PATH)
  endforeach()
endif()
if(_torch_root)
  list(JOIN _torch_root " and " _places)
  set(_reason "looked in ${_places}: run launch/setup.sh, or pass -DLIBTORCH_ROOT=<unpacked LibTorch or the wheel's torch folder>")
else()
  set(_reason "run launch/setup.sh, or pass -DLIBTORCH_ROOT=<unpacked LibTorch or the wheel's torch folder>")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "${_reason}")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES
    IMPORTED_LOCATION ${LibTorch_c10_LIBRARY}
    # The wheel ships headers of fmt and protobuf of its own versions: it is searched after the system's, not before.
    INTERFACE_COMPILE_OPTIONS "SHELL:-idirafter ${LibTorch_INCLUDE_DIR}")
  add_library(LibTorch::cpu SHARED IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES
    IMPORTED_LOCATION ${LibTorch_torch_cpu_LIBRARY}
    INTERFACE_COMPILE_OPTIONS "SHELL:-idirafter ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES LibTorch::c10)
  # The wheel's libraries find theirs by RPATH when loaded; the linker, which looks for the symbols of indirect libraries,
  # must be told to leave them alone.
  target_link_options(LibTorch::cpu INTERFACE -Wl,--allow-shlib-undefined -Wl,--no-as-needed)
  add_library(LibTorch::torch INTERFACE IMPORTED)
  target_link_libraries(LibTorch::torch INTERFACE LibTorch::cpu)

  if(GRU4REC_CUDA)
    # The wheels of CUDA 13 share one folder, nvidia/cu13, beside torch; an unpacked archive goes with an installed toolkit.
    cmake_path(GET LibTorch_ROOT_DIR PARENT_PATH _site_packages)
    file(GLOB _cuda_includes ${_site_packages}/nvidia/cu[0-9]*/include ${_site_packages}/nvidia/cuda_runtime/include)
    find_path(LibTorch_CUDA_INCLUDE_DIR cuda_runtime_api.h
      HINTS ${_cuda_includes} ${CUDAToolkit_ROOT}/include $ENV{CUDA_HOME}/include /usr/local/cuda/include)
    if(NOT LibTorch_torch_cuda_LIBRARY OR NOT LibTorch_c10_cuda_LIBRARY OR NOT LibTorch_CUDA_INCLUDE_DIR)
      message(FATAL_ERROR "GRU4REC_CUDA is on, but LibTorch ${LibTorch_VERSION} in ${LibTorch_ROOT_DIR} lacks libtorch_cuda.so "
        "or libc10_cuda.so, or there is no cuda_runtime_api.h. Run launch/setup.sh --cuda, or pass a CUDA build with "
        "-DLIBTORCH_ROOT= and the toolkit's folder with -DCUDAToolkit_ROOT=.")
    endif()
    add_library(LibTorch::cuda SHARED IMPORTED)
    set_target_properties(LibTorch::cuda PROPERTIES
      IMPORTED_LOCATION ${LibTorch_torch_cuda_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_CUDA_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "${LibTorch_c10_cuda_LIBRARY}")
    target_link_libraries(LibTorch::torch INTERFACE LibTorch::cuda)
  endif()

  if(NOT DEFINED LibTorch_LINKS)
    # A symbol with std::string in its name, which differs between the C++ ABIs.
    set(_probe ${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_links.cpp)
    file(WRITE ${_probe} [[
      #include <c10/util/Exception.h>
      int main(int n, char**) { if (n > 1) throw c10::Error({"", "", 0}, std::string("probe")); }
    ]])
    try_compile(LibTorch_LINKS ${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_links ${_probe}
      CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON LINK_LIBRARIES LibTorch::cpu OUTPUT_VARIABLE _output)
    if(NOT LibTorch_LINKS)
      unset(LibTorch_LINKS CACHE)
      message(FATAL_ERROR "A small program does not link with LibTorch ${LibTorch_VERSION} in ${LibTorch_ROOT_DIR}. If names with "
        "std::string are undefined below, it was built with the old C++ ABI (_GLIBCXX_USE_CXX11_ABI=0): take the wheel that "
        "launch/setup.sh installs, or an archive named cxx11-abi.\n${_output}")
    endif()
  endif()
endif()

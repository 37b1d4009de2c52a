# LibTorch, from a PyPI wheel or an unpacked archive, with or without nvcc: targets LibTorch::cpu and LibTorch::torch.
#
#   LIBTORCH_ROOT   folder that holds include/torch and lib/libtorch_cpu.so; by default the wheel in .deps/venv, which
#                   launch/setup.sh makes.
#
# TorchConfig.cmake is not used: that of a CUDA build asks for a CUDA toolkit even where only the CPU libraries are linked.
file(GLOB _torch_candidates ${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch)
find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/all.h
  HINTS ${LIBTORCH_ROOT} ${_torch_candidates} PATH_SUFFIXES include NO_DEFAULT_PATH)
if(LibTorch_INCLUDE_DIR)
  cmake_path(GET LibTorch_INCLUDE_DIR PARENT_PATH LibTorch_ROOT_DIR)
  file(GLOB _version_headers ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h
       ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h)  # the first one since 2.9
  list(SORT _version_headers)
  list(GET _version_headers -1 _version_header)
  foreach(_part MAJOR MINOR PATCH)
    file(STRINGS ${_version_header} _line REGEX "#define TORCH_VERSION_${_part} [0-9]+")
    string(REGEX MATCH "[0-9]+$" _number "${_line}")
    list(APPEND _version ${_number})
  endforeach()
  list(JOIN _version . LibTorch_VERSION)
  foreach(_name torch_cpu c10 torch_cuda c10_cuda torch)
    find_library(LibTorch_${_name}_LIBRARY ${_name} HINTS ${LibTorch_ROOT_DIR}/lib NO_DEFAULT_PATH)
  endforeach()
  file(STRINGS ${LibTorch_ROOT_DIR}/share/cmake/Torch/TorchConfig.cmake _abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
  if(_abi)
    message(FATAL_ERROR "LibTorch in ${LibTorch_ROOT_DIR} was built with the old C++ ABI (_GLIBCXX_USE_CXX11_ABI=0), "
      "this compiler uses the new one. Take the wheel that launch/setup.sh installs, or an archive named cxx11-abi.")
  endif()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run launch/setup.sh, or pass -DLIBTORCH_ROOT=<unpacked LibTorch or the wheel's torch folder>")
if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${LibTorch_c10_LIBRARY})
  add_library(LibTorch::cpu SHARED IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES
    IMPORTED_LOCATION ${LibTorch_torch_cpu_LIBRARY}
    INTERFACE_LINK_LIBRARIES LibTorch::c10)
  # The wheel ships headers of fmt and protobuf of its own versions: it is searched after the system's, not before.
  target_compile_options(LibTorch::cpu INTERFACE
    "SHELL:-idirafter ${LibTorch_INCLUDE_DIR}" "SHELL:-idirafter ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  # The wheel's libraries find theirs by RPATH when loaded; the linker, which looks for the symbols of indirect libraries,
  # must be told to leave them alone.
  target_link_options(LibTorch::cpu INTERFACE -Wl,--allow-shlib-undefined -Wl,--no-as-needed)
  add_library(LibTorch::torch INTERFACE IMPORTED)
  target_link_libraries(LibTorch::torch INTERFACE LibTorch::cpu)
  if(GRU4REC_CUDA)
    if(NOT LibTorch_torch_cuda_LIBRARY)
      message(FATAL_ERROR "GRU4REC_CUDA is on, but LibTorch in ${LibTorch_ROOT_DIR} has no libtorch_cuda.so. "
        "Run launch/setup.sh --cuda, or pass a CUDA build with -DLIBTORCH_ROOT=.")
    endif()
    add_library(LibTorch::cuda SHARED IMPORTED)
    set_target_properties(LibTorch::cuda PROPERTIES IMPORTED_LOCATION ${LibTorch_torch_cuda_LIBRARY})
    target_link_libraries(LibTorch::torch INTERFACE LibTorch::cuda)
  endif()
endif()

# NCCL and the CUDA runtime it stands on, from PyPI wheels or installed: target NCCL::NCCL.
#
#   NCCL_ROOT   folder that holds include/nccl.h and lib/libnccl.so.2; a variable of CMake or of the environment. By default the
#               wheel beside LibTorch, else what is installed. The CUDA runtime is that of LibTorch in the same way.
#
# After FindLibTorch with GRU4REC_CUDA. The wheels have no plain libnccl.so and libcudart.so: the names with a version are
# looked for as well.
set(_nccl_root ${NCCL_ROOT} $ENV{NCCL_ROOT})
cmake_path(GET LibTorch_ROOT_DIR PARENT_PATH _site_packages)
file(GLOB _cuda_lib_dirs ${_site_packages}/nvidia/cu[0-9]*/lib ${_site_packages}/nvidia/cuda_runtime/lib)

# The wheel's first, even where a toolkit has another one; what an earlier run found is looked for again with a new NCCL_ROOT.
if(NOT "${NCCL_FOUND_IN}" STREQUAL "${_nccl_root};${_site_packages}")
  unset(NCCL_INCLUDE_DIR CACHE)
  unset(NCCL_LIBRARY CACHE)
  unset(NCCL_cudart_LIBRARY CACHE)
endif()
set(NCCL_FOUND_IN "${_nccl_root};${_site_packages}" CACHE INTERNAL "")
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${_nccl_root} ${_site_packages}/nvidia/nccl PATH_SUFFIXES include)
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 NAMES_PER_DIR HINTS ${_nccl_root} ${_site_packages}/nvidia/nccl PATH_SUFFIXES lib lib64)
find_library(NCCL_cudart_LIBRARY NAMES cudart libcudart.so.13 libcudart.so.12 NAMES_PER_DIR
  HINTS ${_cuda_lib_dirs} ${LibTorch_ROOT_DIR}/lib ${CUDAToolkit_ROOT}/lib64 $ENV{CUDA_HOME}/lib64 /usr/local/cuda/lib64)

if(NCCL_INCLUDE_DIR)
  cmake_path(GET NCCL_INCLUDE_DIR PARENT_PATH NCCL_ROOT_DIR)
  set(_version)
  foreach(_part MAJOR MINOR PATCH)
    file(STRINGS ${NCCL_INCLUDE_DIR}/nccl.h _line REGEX "#define NCCL_${_part} +[0-9]+")
    string(REGEX MATCH "[0-9]+$" _number "${_line}")
    list(APPEND _version ${_number})
  endforeach()
  list(JOIN _version . NCCL_VERSION)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NCCL
  REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR NCCL_cudart_LIBRARY LibTorch_CUDA_INCLUDE_DIR VERSION_VAR NCCL_VERSION
  REASON_FAILURE_MESSAGE "run launch/setup.sh --cuda, pass -DNCCL_ROOT=<folder>, or build without it: -DGRU4REC_NCCL=OFF")

if(NCCL_FOUND AND NOT TARGET NCCL::NCCL)
  add_library(NCCL::cudart SHARED IMPORTED)
  set_target_properties(NCCL::cudart PROPERTIES IMPORTED_LOCATION ${NCCL_cudart_LIBRARY})
  add_library(NCCL::NCCL SHARED IMPORTED)
  set_target_properties(NCCL::NCCL PROPERTIES
    IMPORTED_LOCATION ${NCCL_LIBRARY}
    # Its own header first: that of CUDA may lie in a toolkit's folder, which can hold another nccl.h.
    INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR};${LibTorch_CUDA_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES NCCL::cudart)
endif()

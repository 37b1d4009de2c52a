# Arrow C++ and Parquet out of the pyarrow wheel: targets Arrow::arrow, Arrow::arrow_compute (where the wheel has it by itself) and
# Arrow::parquet.
#
#   ARROW_ROOT   folder that holds include/arrow and libarrow.so.NNNN (the wheel's pyarrow folder), a variable of CMake or of the
#                environment; by default the one that launch/setup.sh installs in .deps/venv or .deps/venv-cuda.
#
# The wheel has no plain .so names, so the versioned file is named directly.
set(_arrow_root ${ARROW_ROOT})
if(NOT _arrow_root)
  set(_arrow_root $ENV{ARROW_ROOT})
endif()
if(NOT _arrow_root)
  file(GLOB _arrow_root ${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/pyarrow
       ${PROJECT_SOURCE_DIR}/.deps/venv-cuda/lib/python3*/site-packages/pyarrow)
endif()
if(Arrow_FOUND_IN AND NOT Arrow_FOUND_IN STREQUAL "${_arrow_root}")
  unset(Arrow_INCLUDE_DIR CACHE)
endif()
set(Arrow_FOUND_IN "${_arrow_root}" CACHE INTERNAL "")
find_path(Arrow_INCLUDE_DIR arrow/api.h HINTS ${_arrow_root} PATH_SUFFIXES include NO_DEFAULT_PATH)
if(Arrow_INCLUDE_DIR)
  cmake_path(GET Arrow_INCLUDE_DIR PARENT_PATH Arrow_ROOT_DIR)
  foreach(_name arrow arrow_compute parquet)
    file(GLOB _found ${Arrow_ROOT_DIR}/lib${_name}.so ${Arrow_ROOT_DIR}/lib${_name}.so.[0-9]* ${Arrow_ROOT_DIR}/lib/lib${_name}.so)
    if(_found)
      list(GET _found 0 Arrow_${_name}_LIBRARY)
    endif()
  endforeach()
  file(STRINGS ${Arrow_INCLUDE_DIR}/arrow/util/config.h _line REGEX "#define ARROW_VERSION_STRING ")
  string(REGEX MATCH "[0-9][0-9.]*" Arrow_VERSION "${_line}")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Arrow
  REQUIRED_VARS Arrow_arrow_LIBRARY Arrow_parquet_LIBRARY Arrow_INCLUDE_DIR VERSION_VAR Arrow_VERSION
  REASON_FAILURE_MESSAGE "run launch/setup.sh, or pass -DARROW_ROOT=<folder of a pyarrow wheel>")
if(Arrow_FOUND AND NOT TARGET Arrow::arrow)
  foreach(_name arrow arrow_compute parquet)
    if(Arrow_${_name}_LIBRARY)
      add_library(Arrow::${_name} SHARED IMPORTED)
      set_target_properties(Arrow::${_name} PROPERTIES IMPORTED_LOCATION ${Arrow_${_name}_LIBRARY}
                                                       INTERFACE_INCLUDE_DIRECTORIES ${Arrow_INCLUDE_DIR})
    endif()
  endforeach()
  target_link_libraries(Arrow::parquet INTERFACE Arrow::arrow)
endif()

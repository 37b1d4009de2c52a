# Arrow C++ and Parquet out of the pyarrow wheel: targets Arrow::arrow and Arrow::parquet.
#
#   ARROW_ROOT   folder that holds include/arrow and libarrow.so.NNNN (the wheel's pyarrow folder); by default the one in
#                .deps/venv, which launch/setup.sh makes.
#
# The wheel has no plain .so names, so the versioned file is named directly.
file(GLOB _arrow_candidates ${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/pyarrow)
find_path(Arrow_INCLUDE_DIR arrow/api.h HINTS ${ARROW_ROOT} ${_arrow_candidates} PATH_SUFFIXES include NO_DEFAULT_PATH)
cmake_path(GET Arrow_INCLUDE_DIR PARENT_PATH _arrow_root)
foreach(_name arrow arrow_compute parquet)
  file(GLOB _found ${_arrow_root}/lib${_name}.so ${_arrow_root}/lib${_name}.so.[0-9]* ${_arrow_root}/lib/lib${_name}.so)
  if(_found)
    list(GET _found 0 Arrow_${_name}_LIBRARY)
  endif()
endforeach()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Arrow REQUIRED_VARS Arrow_arrow_LIBRARY Arrow_parquet_LIBRARY Arrow_INCLUDE_DIR
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

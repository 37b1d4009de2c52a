# gru4rec_library(NAME sources… DEPENDS targets…)
#
# One static library a folder, with the project's flags. Order of the folders: base → report → data → comm → model → eval → train → serve.
# Floating point: -ffp-contract=off everywhere, so that the compiler never decides where a multiply and an add are fused; the
# bits of a sum are part of our contract (docs/architecture.md).
add_library(gru4rec_flags INTERFACE)
target_compile_features(gru4rec_flags INTERFACE cxx_std_20)
target_compile_options(gru4rec_flags INTERFACE
  $<BUILD_INTERFACE:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wnon-virtual-dtor;-ffp-contract=off;-fno-math-errno>)
# g++ 12 sees overflows and overlaps inside the headers of fmt and of its own strings at -O3 that are none.
target_compile_options(gru4rec_flags INTERFACE $<BUILD_INTERFACE:-Wno-stringop-overflow;-Wno-restrict>)
if(GRU4REC_WERROR)
  target_compile_options(gru4rec_flags INTERFACE $<BUILD_INTERFACE:-Werror>)
endif()
# libtorch_cpu.so of the PyPI wheel exports the std::filesystem functions of the library it was built with. The first library in
# the list of a program wins, so libstdc++ goes first and programs use that of their own compiler.
target_link_options(gru4rec_flags INTERFACE "SHELL:-Wl,--push-state,--no-as-needed -lstdc++ -Wl,--pop-state")
if(GRU4REC_SANITIZE)
  string(REPLACE ";" "," _sanitizers "${GRU4REC_SANITIZE}")
  target_compile_options(gru4rec_flags INTERFACE
    $<BUILD_INTERFACE:-fsanitize=${_sanitizers};-fno-omit-frame-pointer;-fno-sanitize-recover=all>)
  target_link_options(gru4rec_flags INTERFACE $<BUILD_INTERFACE:-fsanitize=${_sanitizers}>)
endif()
target_include_directories(gru4rec_flags INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS gru4rec_flags EXPORT gru4rec-targets)

function(gru4rec_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC gru4rec_flags ${ARG_DEPENDS} PRIVATE ${ARG_PRIVATE})
  install(TARGETS ${name} EXPORT gru4rec-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# gru4rec_test(NAME sources… [LINK targets…] [TIMEOUT seconds] [LABELS …])
#
# A GoogleTest program; each of its tests becomes a ctest of its own with a time limit, five times as long under a sanitizer.
# Labels `asan` and `tsan` put it into the sanitizer suites of .ci/run. Programs without LibTorch have `asan` by themselves, and
# those among them that use communicators `tsan`. Building the target tests-LABEL builds the programs of a label.
function(gru4rec_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LINK;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  if(GRU4REC_SANITIZE)
    math(EXPR ARG_TIMEOUT "5 * ${ARG_TIMEOUT}")
  endif()
  if(NOT "${ARG_LINK}" MATCHES "gru4rec_(model|eval|train|serve|commands)")
    list(APPEND ARG_LABELS asan)
    if("gru4rec_comm" IN_LIST ARG_LINK)
      list(APPEND ARG_LABELS tsan)
    endif()
  endif()
  list(REMOVE_DUPLICATES ARG_LABELS)
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE gru4rec_flags ${ARG_LINK} test_folders GTest::gmock GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)  # for support/*.h
  include(GoogleTest)
  string(REPLACE ";" "-" _labels "${ARG_LABELS}")  # gtest_discover_tests can hand on one label only: "asan-tsan"
  # OMP_NUM_THREADS: ranks as threads would each start a team of their own. JE_ARROW_MALLOC_CONF: Arrow's allocator starts a
  # thread when it is loaded, and a child forked beside another thread may wait for ever for a lock of the address sanitizer.
  # Labels come last: an empty list of them vanishes.
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT OMP_NUM_THREADS=1
      ENVIRONMENT_MODIFICATION JE_ARROW_MALLOC_CONF=set:background_thread:false LABELS "${_labels}")
  gru4rec_label_targets(${name} ${ARG_LABELS})
endfunction()

# gru4rec_label_targets(target labels…): makes tests-LABEL build the target.
function(gru4rec_label_targets target)
  foreach(_label ${ARGN})
    if(NOT TARGET tests-${_label})
      add_custom_target(tests-${_label})
    endif()
    add_dependencies(tests-${_label} ${target})
  endforeach()
endfunction()

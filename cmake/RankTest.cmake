# gru4rec_rank_test(NAME program RANKS n [ARGS …] [EXIT code] [EXPECT text…] [TIMEOUT seconds] [LABELS …])
#
# A ctest that runs `mpirun -np n program args` and passes if mpirun returns EXIT (0 by default) within TIMEOUT (60 s by
# default) and each text of EXPECT appears in what it printed. `program` is a target. More ranks than cores are fine: they
# are not bound, and yield while they wait.
function(gru4rec_rank_test name program)
  cmake_parse_arguments(ARG "" "RANKS;EXIT;TIMEOUT" "ARGS;EXPECT;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  if(NOT ARG_EXIT)
    set(ARG_EXIT 0)
  endif()
  set(_expect)
  foreach(_text ${ARG_EXPECT})
    list(APPEND _expect --expect ${_text})
  endforeach()
  math(EXPR _hard_limit "${ARG_TIMEOUT} + 15")  # the script ends mpirun first, and says what it printed
  add_test(NAME ${name} COMMAND ${PROJECT_SOURCE_DIR}/cmake/expect_exit.sh --exit ${ARG_EXIT} --seconds ${ARG_TIMEOUT} ${_expect}
    -- ${MPIEXEC_EXECUTABLE} -np ${ARG_RANKS} --oversubscribe --bind-to none --mca mpi_yield_when_idle 1
    $<TARGET_FILE:${program}> ${ARG_ARGS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${_hard_limit} LABELS "${ARG_LABELS}" PROCESSORS 2
    ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
endfunction()

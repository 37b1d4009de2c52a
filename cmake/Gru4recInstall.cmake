# The library target gru4rec::gru4rec over all folders, `cmake --install`, and what find_package(gru4rec) finds.
# Only with GRU4REC_TORCH: without it there is no whole.
include(CMakePackageConfigHelpers)
set(_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gru4rec)

add_library(gru4rec_whole INTERFACE)
set_target_properties(gru4rec_whole PROPERTIES EXPORT_NAME gru4rec)
target_link_libraries(gru4rec_whole INTERFACE gru4rec_serve gru4rec_train gru4rec_eval gru4rec_model gru4rec_comm gru4rec_data gru4rec_report gru4rec_base)
add_library(gru4rec::gru4rec ALIAS gru4rec_whole)

install(TARGETS gru4rec gru4rec-torch RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS gru4rec_whole EXPORT gru4rec-targets)
install(EXPORT gru4rec-targets NAMESPACE gru4rec:: DESTINATION ${_config_dir})
install(DIRECTORY include/gru4rec DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES cmake/FindLibTorch.cmake cmake/FindNCCL.cmake cmake/FindArrow.cmake cmake/FindxxHash.cmake DESTINATION ${_config_dir}/modules)
configure_package_config_file(cmake/gru4rec-config.cmake.in gru4rec-config.cmake INSTALL_DESTINATION ${_config_dir})
write_basic_package_version_file(gru4rec-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gru4rec-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/gru4rec-config-version.cmake
  DESTINATION ${_config_dir})
# Examples of configurations, the launcher and the licence, as in a clone: bin/gru4rec finds none of them by itself.
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/gru4rec)
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(PROGRAMS launch/mpirun.sh launch/supervise.sh DESTINATION ${CMAKE_INSTALL_DATADIR}/gru4rec/launch)
install(FILES launch/lib.sh DESTINATION ${CMAKE_INSTALL_DATADIR}/gru4rec/launch)

# find_package(SimpleMatchKernels) gives SimpleMatchKernels::simplematch.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/SimpleMatchKernels)
install(TARGETS simplematch EXPORT SimpleMatchKernelsTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY csrc/include/simplematch DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT SimpleMatchKernelsTargets NAMESPACE SimpleMatchKernels:: DESTINATION ${package_dir})
configure_package_config_file(cmake/SimpleMatchKernelsConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/SimpleMatchKernelsConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/SimpleMatchKernelsConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/SimpleMatchKernelsConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/SimpleMatchKernelsConfigVersion.cmake DESTINATION ${package_dir})

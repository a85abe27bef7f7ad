# find_package(SimpleMatchKernels) gives SimpleMatchKernels::simplematch (shared) and ::simplematch_static;
# pkg-config knows it as `simplematch`.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/SimpleMatchKernels)
install(TARGETS simplematch_shared simplematch_static EXPORT SimpleMatchKernelsTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY csrc/include/simplematch DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT SimpleMatchKernelsTargets NAMESPACE SimpleMatchKernels:: DESTINATION ${package_dir})
configure_package_config_file(cmake/SimpleMatchKernelsConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/SimpleMatchKernelsConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/SimpleMatchKernelsConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/SimpleMatchKernelsConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/SimpleMatchKernelsConfigVersion.cmake DESTINATION ${package_dir})

# The prefix as seen from the file itself, so that an installed tree can be moved.
file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" SIMPLEMATCH_PC_PREFIX "\${pcfiledir}/${up}")
list(JOIN simplematch_private_libraries " " SIMPLEMATCH_PC_PRIVATE)
configure_file(cmake/simplematch.pc.in ${CMAKE_CURRENT_BINARY_DIR}/simplematch.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/simplematch.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

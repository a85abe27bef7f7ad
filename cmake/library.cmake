# libsimplematch, shared and static, from the same objects: the kernels and the C interface over them.
# Only the C interface is exported, as symbols of version SIMPLEMATCH_<major>.<minor>.

set(interface defaults.cpp error.cpp option_checks.cpp problem_checks.cpp result_checks.cpp simplematch.cpp tensor_checks.cpp
  value_checks.cpp)
list(TRANSFORM interface PREPEND csrc/c/)
add_library(simplematch_c OBJECT ${interface})
target_include_directories(simplematch_c PRIVATE csrc csrc/include)
target_compile_definitions(simplematch_c PRIVATE SIMPLEMATCH_BUILD_VERSION="${PROJECT_VERSION}"
  $<TARGET_PROPERTY:simplematch,INTERFACE_COMPILE_DEFINITIONS>)
target_compile_options(simplematch_c PRIVATE -Wall -Wextra)
if(OpenMP_CXX_FOUND)
  target_link_libraries(simplematch_c PRIVATE OpenMP::OpenMP_CXX)
endif()

set(objects $<TARGET_OBJECTS:simplematch_c> $<TARGET_OBJECTS:simplematch>)
foreach(level ${SIMPLEMATCH_LEVELS})
  list(APPEND objects $<TARGET_OBJECTS:simplematch_${level}>)
endforeach()

if(TARGET simplematch_cuda)
  list(APPEND objects $<TARGET_OBJECTS:simplematch_cuda>)
endif()

function(add_simplematch target kind)
  add_library(${target} ${kind} ${objects})
  target_include_directories(${target} INTERFACE
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/csrc/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  # a list of objects says nothing about its language
  set_target_properties(${target} PROPERTIES OUTPUT_NAME simplematch LINKER_LANGUAGE CXX)
endfunction()

include(GNUInstallDirs)
add_simplematch(simplematch_shared SHARED)
add_simplematch(simplematch_static STATIC)
set_target_properties(simplematch_shared PROPERTIES EXPORT_NAME simplematch)
add_library(SimpleMatchKernels::simplematch ALIAS simplematch_shared)
add_library(SimpleMatchKernels::simplematch_static ALIAS simplematch_static)

# Before 1.0 a minor version may change the interface, so it names the file that programs load.
set_target_properties(simplematch_shared PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_link_libraries(simplematch_shared PRIVATE $<TARGET_PROPERTY:simplematch,LINK_LIBRARIES>)
if(UNIX AND NOT APPLE)
  set(version_script ${CMAKE_CURRENT_BINARY_DIR}/simplematch.map)
  configure_file(cmake/simplematch.map.in ${version_script} @ONLY)
  target_link_options(simplematch_shared PRIVATE -Wl,--version-script=${version_script})
  if(NOT SIMPLEMATCH_FUZZ)
    target_link_options(simplematch_shared PRIVATE -Wl,--no-undefined)
  endif()
  set_target_properties(simplematch_shared PROPERTIES LINK_DEPENDS ${version_script})
endif()

# Whoever links the archive links what it needs: named as the compiler names it, so that no path of this machine is
# installed, and a program in C finds the C++ library too.
set(simplematch_private_libraries -lm)
if(OpenMP_CXX_FOUND)
  set(simplematch_private_libraries ${OpenMP_CXX_FLAGS} ${simplematch_private_libraries})
  separate_arguments(openmp_flags UNIX_COMMAND "${OpenMP_CXX_FLAGS}")
  target_link_options(simplematch_static INTERFACE ${openmp_flags})
endif()
target_link_libraries(simplematch_static INTERFACE $<$<NOT:$<LINK_LANGUAGE:CXX>>:stdc++> m)
set(SIMPLEMATCH_NEEDS_CUDA OFF)
if(TARGET CUDA::cudart_static)
  set(SIMPLEMATCH_NEEDS_CUDA ON)
  target_link_libraries(simplematch_static INTERFACE CUDA::cudart_static)
  list(APPEND simplematch_private_libraries -lcudart_static -lrt -lpthread -ldl)
endif()

# The CUDA kernels, for every chip in SIMPLEMATCH_CUDA_ARCHITECTURES, with the CUDA runtime inside.
#
# SIMPLEMATCH_CUDA=emulated compiles the same sources with the C++ compiler, for tests on a machine without a GPU: the
# folder tests/cuda_emulation stands in for CUDA's headers.

set(cuda_sources absolute.cu details.cu driver.cu gather.cu localize.cu localize_backward.cu match.cu match_all.cu match_all_backward.cu match_backward.cu
  norms.cu operators.cu query_backward.cu similarity.cu source_backward.cu sparse_match_cross_entropy.cu target_backward.cu
  localize_upsampled.cu neighbour_products.cu local_correlation.cu local_correlation_backward.cu pair_scores.cu)
list(TRANSFORM cuda_sources PREPEND csrc/cuda/)

if(SIMPLEMATCH_CUDA STREQUAL "emulated")
  set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX)
  add_library(simplematch_cuda OBJECT ${cuda_sources} tests/cuda_emulation/emulation.cpp)
  target_include_directories(simplematch_cuda PRIVATE tests/cuda_emulation)
  # -x c++: a compiler takes .cu for CUDA; shared memory holds one type after another, which aliasing rules forbid
  target_compile_options(simplematch_cuda PRIVATE -x c++ -fno-strict-aliasing -ffp-contract=off -Wall -Wextra
    -Wno-unknown-pragmas)
  target_compile_definitions(simplematch PUBLIC SIMPLEMATCH_EMULATED_CUDA)
else()
  set(CMAKE_CUDA_STANDARD 17)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(architectures 75-real 80-real 86-real 89-real 90-real 100-real 120)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
    set(architectures 75-real 80-real 86-real 89-real 90)  # it knows no more
  endif()
  if(NOT "$ENV{CUDAARCHS}" STREQUAL "")
    set(architectures $ENV{CUDAARCHS})
  endif()
  add_library(simplematch_cuda OBJECT ${cuda_sources})
  set_target_properties(simplematch_cuda PROPERTIES CUDA_ARCHITECTURES "${architectures}" CUDA_RUNTIME_LIBRARY Static)
  target_compile_options(simplematch_cuda PRIVATE -Xcompiler=-Wall)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
    target_compile_options(simplematch_cuda PRIVATE --compress-mode=size)
  endif()
  target_link_libraries(simplematch PRIVATE CUDA::cudart_static)
endif()
target_include_directories(simplematch_cuda PRIVATE csrc csrc/include)
target_sources(simplematch PRIVATE $<TARGET_OBJECTS:simplematch_cuda>)
target_compile_definitions(simplematch PUBLIC SIMPLEMATCH_HAS_CUDA)

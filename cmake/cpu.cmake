# The CPU kernels: the steps once for each instruction set, chosen among at run time, and the drivers around them.
# Never -march=native, so that a build runs on every machine; never -ffast-math, which would lose NaN.

set(steps similarity.cpp absolute_backward.cpp localize.cpp localize_backward.cpp details.cpp side_by_side.cpp small_maps.cpp
  row_sums.cpp backward.cpp match_all.cpp match_all_backward.cpp match_all_steps.cpp neighbour_products.cpp upsample.cpp
  local_correlation.cpp pair_scores.cpp
  level.cpp)
list(TRANSFORM steps PREPEND csrc/cpu/)
if(NOT SIMPLEMATCH_FUZZ)
  set(SIMPLEMATCH_OPTIMIZATION -O3)
endif()
set(step_flags ${SIMPLEMATCH_OPTIMIZATION} -ffp-contract=fast -fno-math-errno -fno-trapping-math -fopenmp-simd)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # vectors are only passed between inlined functions; GCC 12 warns about its own AVX-512 header
  list(APPEND step_flags -Wno-psabi -Wno-maybe-uninitialized)
endif()

function(add_level name)
  add_library(simplematch_${name} OBJECT ${steps})
  target_include_directories(simplematch_${name} PRIVATE csrc csrc/include)
  target_compile_definitions(simplematch_${name} PRIVATE SIMPLEMATCH_LEVEL=${name})
  target_compile_options(simplematch_${name} PRIVATE -Wall -Wextra ${step_flags} ${ARGN})
  target_sources(simplematch PRIVATE $<TARGET_OBJECTS:simplematch_${name}>)
  set(SIMPLEMATCH_LEVELS ${SIMPLEMATCH_LEVELS} ${name} PARENT_SCOPE)
endfunction()

add_level(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  add_level(avx2 -mavx2 -mfma -mf16c)
  add_level(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512)
  target_compile_definitions(simplematch PRIVATE SIMPLEMATCH_HAS_AVX2)
endif()

set(drivers driver.cpp gather.cpp instructions.cpp match.cpp match_all_driver.cpp match_all_backward_driver.cpp
  match_backward.cpp memory.cpp operators.cpp source_backward.cpp sparse_match_cross_entropy.cpp
  localize_upsampled.cpp neighbour_products_driver.cpp local_correlation_driver.cpp
  local_correlation_backward.cpp local_correlation_plan.cpp pair_scores_driver.cpp)
list(TRANSFORM drivers PREPEND csrc/cpu/)
target_sources(simplematch PRIVATE ${drivers})
# A contracted x * a + b rounds once where the definition rounds twice: a pixel could fall into the next cell.
target_compile_options(simplematch PRIVATE -Wall -Wextra -ffp-contract=off)
if(OpenMP_CXX_FOUND)
  target_link_libraries(simplematch PRIVATE OpenMP::OpenMP_CXX)
endif()

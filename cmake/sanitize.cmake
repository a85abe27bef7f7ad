# Everything with AddressSanitizer and UndefinedBehaviorSanitizer, which end the program at the first finding.
set(SIMPLEMATCH_OPTIMIZATION -O0)  # the steps take minutes to compile with sanitizers otherwise
set(CMAKE_CXX_FLAGS_RELEASE "-O1 -g1")
set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
add_compile_options(${sanitizers})
add_link_options(${sanitizers})
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  add_compile_options(-fsanitize=fuzzer-no-link)  # libFuzzer goes by the branches that an input reaches
endif()

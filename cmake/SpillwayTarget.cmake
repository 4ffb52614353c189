# What every target of ours has: warnings as errors, the chosen sanitizer, ccache, <spillway/version.h>.

include(GoogleTest)

add_library(spillway_build_flags INTERFACE)
# No contraction: the arithmetic is the same to the last bit whether or not the compiler knows of FMA.
# -Wno-restrict: gcc 12, and only it, warns falsely about std::string's operator+ (its bug 105651).
target_compile_options(spillway_build_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror;-ffp-contract=off>
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
  $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false;-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror>)
# The same for every target: those that share precompiled headers must agree.
target_compile_definitions(spillway_build_flags INTERFACE $<$<BOOL:${SPILLWAY_CUDA_FOUND}>:SPILLWAY_CUDA>)
if(SPILLWAY_SANITIZE)
  set(flags -fsanitize=${SPILLWAY_SANITIZE} -fno-sanitize-recover=all)
  target_compile_options(spillway_build_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:${flags};-fno-omit-frame-pointer>")
  target_link_options(spillway_build_flags INTERFACE ${flags})
endif()

find_program(SPILLWAY_CCACHE ccache)
mark_as_advanced(SPILLWAY_CCACHE)
if(SPILLWAY_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness lets ccache serve precompiled headers, and the files that use them.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${SPILLWAY_CCACHE})
endif()

configure_file(${CMAKE_CURRENT_LIST_DIR}/version.h.in ${PROJECT_BINARY_DIR}/include/spillway/version.h)

# spillway_library(name SOURCES ...): a library target spillway_<name> with alias spillway::<name>, and its public
# headers under <folder>/include.
function(spillway_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES")
  add_library(spillway_${name} ${arg_SOURCES})
  add_library(spillway::${name} ALIAS spillway_${name})
  set_target_properties(spillway_${name} PROPERTIES
    EXPORT_NAME ${name} VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_include_directories(spillway_${name} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(spillway_${name} PUBLIC cxx_std_20)
  target_link_libraries(spillway_${name} PRIVATE $<BUILD_INTERFACE:spillway_build_flags>)
endfunction()

# spillway_program(name SOURCES ... LIBRARIES ...): an executable in <build>/bin.
function(spillway_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} spillway_build_flags)
endfunction()

# Where tests keep their files: on the disk of the build, for /tmp may be memory.
set(SPILLWAY_TEST_DIRECTORY ${PROJECT_BINARY_DIR}/tests/files CACHE PATH "where tests keep their files")
file(MAKE_DIRECTORY ${SPILLWAY_TEST_DIRECTORY})

# spillway_test(name [ONE_PROCESS] [RUN_SERIAL] SOURCES ... LIBRARIES ... LABELS ... [TIMEOUT s]): a GoogleTest
# program. Each of its cases is a test of CTest named <name>/<case>, in a process of its own; with ONE_PROCESS the
# program is one test (where cases share work that is dear to set up). RUN_SERIAL: nothing runs beside it.
function(spillway_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "ONE_PROCESS;RUN_SERIAL" "TIMEOUT" "SOURCES;LIBRARIES;LABELS")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  spillway_program(${name} SOURCES ${arg_SOURCES} LIBRARIES ${arg_LIBRARIES} GTest::gmock
                   GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set(properties TIMEOUT ${arg_TIMEOUT} RUN_SERIAL ${arg_RUN_SERIAL})
  if("spillway::trainer" IN_LIST arg_LIBRARIES)
    list(APPEND properties PROCESSORS 2)  # libtorch's threads spin: two such tests slow each other down
  endif()
  # OpenMP's threads sleep when idle: on a machine shared with other work, spinning costs whole seconds.
  set(environment TMPDIR=${SPILLWAY_TEST_DIRECTORY} TEST_TMPDIR=${SPILLWAY_TEST_DIRECTORY} OMP_WAIT_POLICY=passive)
  if(arg_ONE_PROCESS)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES ${properties} LABELS "${arg_LABELS}"
                         ENVIRONMENT "${environment}")
  else()
    gtest_discover_tests(${name} TEST_PREFIX ${name}/ TEST_LIST tests_of_${name}
                         DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
    # gtest_discover_tests() takes no property that is a list, so these are set behind it.
    set(lists_file ${CMAKE_CURRENT_BINARY_DIR}/${name}_lists.cmake)
    file(CONFIGURE OUTPUT ${lists_file} @ONLY CONTENT [[
foreach(test IN LISTS tests_of_@name@)
  set_tests_properties("${test}" PROPERTIES LABELS "@arg_LABELS@" ENVIRONMENT "@environment@")
endforeach()
]])
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${lists_file})
  endif()
endfunction()

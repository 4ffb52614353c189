# spillway_library(name SOURCES ...): a library target spillway_<name> with alias spillway::<name>,
# its public headers under <name>/include, our warnings, and the chosen sanitizer.

add_library(spillway_build_flags INTERFACE)
target_compile_options(spillway_build_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror -ffp-contract=off>)
if(SPILLWAY_SANITIZE)
  target_compile_options(spillway_build_flags INTERFACE
    -fsanitize=${SPILLWAY_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(spillway_build_flags INTERFACE -fsanitize=${SPILLWAY_SANITIZE})
endif()

function(spillway_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES")
  add_library(spillway_${name} ${arg_SOURCES})
  add_library(spillway::${name} ALIAS spillway_${name})
  set_target_properties(spillway_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(spillway_${name} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(spillway_${name} PUBLIC cxx_std_20)
  target_link_libraries(spillway_${name} PRIVATE $<BUILD_INTERFACE:spillway_build_flags>)
endfunction()

# spillway_program(name SOURCES ... LIBRARIES ...): an executable with our warnings.
function(spillway_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} spillway_build_flags)
endfunction()

# spillway_test(name SOURCES ... LIBRARIES ... LABELS ...): a GoogleTest program, one CTest each.
function(spillway_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  spillway_program(${name} SOURCES ${arg_SOURCES} LIBRARIES ${arg_LIBRARIES} GTest::gmock
                   GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT})
endfunction()

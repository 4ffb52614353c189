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
  # The sloppiness lets ccache serve precompiled headers, and the files that use them. With paths relative to the
  # checkout, and no folder in the hash, what one clone has compiled is found by every other.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_NOHASHDIR=1
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} ${SPILLWAY_CCACHE})
endif()

# Which kinds of the lower layers' libraries are built and installed, and which of them spillway::<name> is here.
if(SPILLWAY_LIBRARIES STREQUAL both)
  set(SPILLWAY_LIBRARY_KINDS static shared)
elseif(SPILLWAY_LIBRARIES MATCHES "^(static|shared)$")
  set(SPILLWAY_LIBRARY_KINDS ${SPILLWAY_LIBRARIES})
else()
  message(FATAL_ERROR "SPILLWAY_LIBRARIES is '${SPILLWAY_LIBRARIES}', must be both, static or shared")
endif()
if(NOT static IN_LIST SPILLWAY_LIBRARY_KINDS AND (SPILLWAY_TESTS OR SPILLWAY_TOOLS OR SPILLWAY_TRAINER))
  message(FATAL_ERROR "Tests, tools and trainer link the static libraries: SPILLWAY_LIBRARIES must be both or static")
endif()
list(GET SPILLWAY_LIBRARY_KINDS 0 SPILLWAY_LIBRARY_KIND)
if(BUILD_SHARED_LIBS AND shared IN_LIST SPILLWAY_LIBRARY_KINDS)
  set(SPILLWAY_LIBRARY_KIND shared)
endif()

# Of the shared libraries: releases of one SOVERSION can stand in for each other (see <spillway/version.h>).
set(SPILLWAY_SOVERSION ${PROJECT_VERSION_MAJOR})
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(SPILLWAY_SOVERSION 0.${PROJECT_VERSION_MINOR})
endif()
set(exported_map ${PROJECT_BINARY_DIR}/exported.map)
configure_file(${CMAKE_CURRENT_LIST_DIR}/exported.map.in ${exported_map} @ONLY)
configure_file(${CMAKE_CURRENT_LIST_DIR}/version.h.in ${PROJECT_BINARY_DIR}/include/spillway/version.h)

# spillway_library(name SOURCES ... [PUBLIC ...] [PRIVATE ...]): a layer's library, static and shared from the same
# objects, its public headers under <folder>/include. PUBLIC and PRIVATE: what it links. Targets: spillway_<name> and
# spillway::<name>_static, spillway_<name>_shared and spillway::<name>_shared; spillway::<name> is the kind that
# BUILD_SHARED_LIBS asks for. SPILLWAY_LIBRARIES says which kinds are built.
function(spillway_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;PUBLIC;PRIVATE")
  add_library(spillway_${name}_objects OBJECT ${arg_SOURCES})
  _spillway_library_properties(spillway_${name}_objects "${arg_PUBLIC}" "${arg_PRIVATE}")
  # Not the static libraries on libtorch: they share its precompiled headers with programs, and those must agree.
  set_target_properties(spillway_${name}_objects PROPERTIES CXX_VISIBILITY_PRESET hidden
                        VISIBILITY_INLINES_HIDDEN ON)
  foreach(kind IN LISTS SPILLWAY_LIBRARY_KINDS)
    set(target spillway_${name}_${kind})
    string(TOUPPER ${kind} upper)
    add_library(${target} ${upper} $<TARGET_OBJECTS:spillway_${name}_objects>)
    add_library(spillway::${name}_${kind} ALIAS ${target})
    # A library links those of its own kind.
    list(TRANSFORM arg_PUBLIC REPLACE "^spillway::(.+)$" "spillway::\\1_${kind}" OUTPUT_VARIABLE public)
    list(TRANSFORM arg_PRIVATE REPLACE "^spillway::(.+)$" "spillway::\\1_${kind}" OUTPUT_VARIABLE private)
    _spillway_library_properties(${target} "${public}" "${private}")
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} OUTPUT_NAME spillway_${name})
    set_property(GLOBAL APPEND PROPERTY SPILLWAY_LIBRARY_TARGETS_${upper} ${target})
  endforeach()
  if(TARGET spillway_${name}_shared)
    set_target_properties(spillway_${name}_shared PROPERTIES
      VERSION ${PROJECT_VERSION} SOVERSION ${SPILLWAY_SOVERSION} LINK_DEPENDS ${exported_map})
    target_link_options(spillway_${name}_shared PRIVATE -Wl,--version-script=${exported_map})
    if(NOT SPILLWAY_SANITIZE)  # no generator expression: "address,undefined" has a comma
      target_link_options(spillway_${name}_shared PRIVATE -Wl,-z,defs)
    endif()
  endif()
  add_library(spillway::${name} ALIAS spillway_${name}_${SPILLWAY_LIBRARY_KIND})
endfunction()

function(_spillway_library_properties target public private)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PUBLIC ${public} PRIVATE ${private} $<BUILD_INTERFACE:spillway_build_flags>)
endfunction()

# spillway_static_library(name SOURCES ...): a library spillway_<name>, spillway::<name>, that is static whatever
# BUILD_SHARED_LIBS says.
function(spillway_static_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES")
  add_library(spillway_${name} STATIC ${arg_SOURCES})
  add_library(spillway::${name} ALIAS spillway_${name})
  _spillway_library_properties(spillway_${name} "" "")
  set_target_properties(spillway_${name} PROPERTIES EXPORT_NAME ${name})
endfunction()

# spillway_program(name SOURCES ... LIBRARIES ...): an executable in <build>/bin.
function(spillway_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
  # Static, whatever BUILD_SHARED_LIBS says: a tool is one file, and tests reach what a shared library hides.
  if(static IN_LIST SPILLWAY_LIBRARY_KINDS)
    list(TRANSFORM arg_LIBRARIES REPLACE "^spillway::(aio|pinned_pool|swapper|c)$" "spillway::\\1_static")
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} spillway_build_flags)
endfunction()

# Where tests keep their files: on the disk of the build, for /tmp may be memory.
set(SPILLWAY_TEST_DIRECTORY ${PROJECT_BINARY_DIR}/tests/files CACHE PATH "where tests keep their files")
file(MAKE_DIRECTORY ${SPILLWAY_TEST_DIRECTORY})

# spillway_test(name [ONE_PROCESS] [RUN_SERIAL] SOURCES ... LIBRARIES ... LABELS ... [TIMEOUT s]): a GoogleTest
# program. Each of its cases is a test of CTest named <name>/<case>, in a process of its own; with ONE_PROCESS the
# program is one test, and tests/summary.py counts its cases (libtorch takes half a second of a core to load).
# RUN_SERIAL: nothing runs beside it.
function(spillway_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "ONE_PROCESS;RUN_SERIAL" "TIMEOUT" "SOURCES;LIBRARIES;LABELS")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  spillway_program(${name} SOURCES ${arg_SOURCES} LIBRARIES ${arg_LIBRARIES} GTest::gmock
                   GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set(properties TIMEOUT ${arg_TIMEOUT} RUN_SERIAL ${arg_RUN_SERIAL})
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

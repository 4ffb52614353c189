# What `cmake --install` lays down: libraries, headers, programs, and the files by which find_package(spillway)
# and pkg-config find them. The result may be moved as a whole.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/spillway)

# Static and shared libraries have the same names in two export sets: a user takes one of them.
foreach(kind Static Shared)
  string(TOUPPER ${kind} upper)
  get_property(libraries GLOBAL PROPERTY SPILLWAY_LIBRARY_TARGETS_${upper})
  if(libraries)
    install(TARGETS ${libraries} EXPORT spillway${kind}Targets)
    install(EXPORT spillway${kind}Targets NAMESPACE spillway:: DESTINATION ${package_dir})
  endif()
endforeach()
install(DIRECTORY aio/include/ pinned_pool/include/ swapper/include/ ${PROJECT_BINARY_DIR}/include/
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

if(TARGET spillway_trainer)
  foreach(library trainer_kernels trainer_base trainer_stream trainer_cuda trainer)
    if(TARGET spillway_${library})
      install(TARGETS spillway_${library} EXPORT spillwayTrainerTargets)
    endif()
  endforeach()
  install(DIRECTORY trainer/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT spillwayTrainerTargets NAMESPACE spillway:: DESTINATION ${package_dir})
  install(FILES cmake/FindLibtorch.cmake cmake/empty_main.cc DESTINATION ${package_dir})
endif()
foreach(program spillway aio_bench)
  if(TARGET ${program})
    install(TARGETS ${program})
  endif()
endforeach()

configure_package_config_file(
  cmake/spillwayConfig.cmake.in ${PROJECT_BINARY_DIR}/package/spillwayConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/package/spillwayConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/package/spillwayConfig.cmake
              ${PROJECT_BINARY_DIR}/package/spillwayConfigVersion.cmake DESTINATION ${package_dir})

# A shared library outside the loader's directories is found by the path that its user's program carries.
set(rpath "")
if(shared IN_LIST SPILLWAY_LIBRARY_KINDS AND NOT CMAKE_INSTALL_FULL_LIBDIR MATCHES "^/(usr/)?lib")
  set(rpath "-Wl,-rpath,\${libdir} ")
endif()

# A static library does not bring what it needs itself: where there is no shared one, pkg-config always says it.
set(private .private)
if(NOT shared IN_LIST SPILLWAY_LIBRARY_KINDS)
  set(private "")
endif()
# Not hwloc's own file: with --static it asks for -ludev, which libhwloc-dev does not bring.
list(JOIN hwloc_LDFLAGS " " hwloc_link)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
           BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE prefix_from_pc)
foreach(package spillway spillway-c)
  configure_file(cmake/${package}.pc.in ${PROJECT_BINARY_DIR}/package/${package}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/package/${package}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

# Finds libtorch inside an installation of the Python package torch. Python itself is not needed.
#
# Looked for in SPILLWAY_TORCH (variable or environment; the folder `torch`), then where tools/setup.sh puts it.
# Targets: Libtorch::cpu; and Libtorch::cuda (which includes it) where this libtorch has CUDA, the libraries it
# needs are there too, and so is a CUDA toolkit of its major version; else Libtorch_NO_CUDA_REASON says why not.
set(_torch_cache $ENV{XDG_CACHE_HOME})
if(NOT _torch_cache)
  set(_torch_cache $ENV{HOME}/.cache)
endif()
file(GLOB _torch_installed ${_torch_cache}/spillway/torch-2.11.*/lib/python*/site-packages/torch)
set(_torch_hints ${SPILLWAY_TORCH} $ENV{SPILLWAY_TORCH} ${_torch_installed})

# Another SPILLWAY_TORCH than at the last configuration: look again.
if(NOT "${_torch_hints}" STREQUAL "${Libtorch_SEARCHED}")
  foreach(_torch_found INCLUDE_DIR CPU_LIBRARY C10_LIBRARY CUDA_LIBRARY C10_CUDA_LIBRARY NCCL_INCLUDE_DIR)
    unset(Libtorch_${_torch_found} CACHE)
  endforeach()
  set(Libtorch_SEARCHED "${_torch_hints}" CACHE INTERNAL "")
endif()

find_path(Libtorch_INCLUDE_DIR ATen/ATen.h HINTS ${_torch_hints} PATH_SUFFIXES include)
find_library(Libtorch_CPU_LIBRARY torch_cpu HINTS ${_torch_hints} PATH_SUFFIXES lib)
find_library(Libtorch_C10_LIBRARY c10 HINTS ${_torch_hints} PATH_SUFFIXES lib)
if(Libtorch_CPU_LIBRARY)
  cmake_path(GET Libtorch_CPU_LIBRARY PARENT_PATH _torch_lib)
  cmake_path(GET _torch_lib PARENT_PATH _torch_root)
  if(EXISTS ${_torch_root}/version.py)
    file(STRINGS ${_torch_root}/version.py _torch_line REGEX "^__version__ = ")
    string(REGEX REPLACE ".*'([^']*)'.*" "\\1" Libtorch_VERSION "${_torch_line}")
  endif()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_CPU_LIBRARY Libtorch_C10_LIBRARY Libtorch_INCLUDE_DIR
  VERSION_VAR Libtorch_VERSION
  REASON_FAILURE_MESSAGE
    "set SPILLWAY_TORCH to the folder 'torch' of an installation, or run tools/setup.sh")

if(Libtorch_FOUND AND NOT TARGET Libtorch::cpu)
  add_library(Libtorch::cpu INTERFACE IMPORTED)
  # IMPORTED makes these SYSTEM includes: torch's headers do not pass -Wextra.
  target_include_directories(Libtorch::cpu INTERFACE
    ${Libtorch_INCLUDE_DIR} ${Libtorch_INCLUDE_DIR}/torch/csrc/api/include)
  target_compile_definitions(Libtorch::cpu INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
  target_link_libraries(Libtorch::cpu INTERFACE
    ${Libtorch_CPU_LIBRARY} ${Libtorch_C10_LIBRARY} Threads::Threads)
endif()

if(Libtorch_FOUND AND NOT TARGET Libtorch::cuda)
  find_library(Libtorch_CUDA_LIBRARY torch_cuda HINTS ${_torch_lib} NO_DEFAULT_PATH)
  find_library(Libtorch_C10_CUDA_LIBRARY c10_cuda HINTS ${_torch_lib} NO_DEFAULT_PATH)
  find_path(Libtorch_NCCL_INCLUDE_DIR nccl.h HINTS ${_torch_root}/../nvidia/nccl/include)
  find_package(CUDAToolkit QUIET)
  set(Libtorch_NO_CUDA_REASON "")
  # Nothing of ours calls into libtorch_cuda.so, it registers itself: the linker must not drop it. One item, so
  # that CMake keeps its parts together.
  set(_torch_keep_cuda
      "-Wl,--push-state,--no-as-needed,${Libtorch_CUDA_LIBRARY},--pop-state")
  if(NOT Libtorch_CUDA_LIBRARY OR NOT Libtorch_C10_CUDA_LIBRARY)
    set(Libtorch_NO_CUDA_REASON "this libtorch has no CUDA (${_torch_root})")
  elseif(NOT CUDAToolkit_FOUND)
    set(Libtorch_NO_CUDA_REASON "no CUDA toolkit")
  elseif(NOT Libtorch_VERSION MATCHES "cu${CUDAToolkit_VERSION_MAJOR}[0-9]$")
    set(Libtorch_NO_CUDA_REASON
        "CUDA toolkit ${CUDAToolkit_VERSION} does not fit torch ${Libtorch_VERSION}")
  elseif(NOT Libtorch_NCCL_INCLUDE_DIR)
    set(Libtorch_NO_CUDA_REASON "no nccl.h")
  else()
    try_compile(_torch_cuda_links SOURCES ${CMAKE_CURRENT_LIST_DIR}/empty_main.cc
      LINK_LIBRARIES ${_torch_keep_cuda} ${Libtorch_CPU_LIBRARY} ${Libtorch_C10_LIBRARY} NO_CACHE)
    if(NOT _torch_cuda_links)
      set(Libtorch_NO_CUDA_REASON "libraries that ${Libtorch_CUDA_LIBRARY} needs are missing")
    endif()
  endif()
  if(NOT Libtorch_NO_CUDA_REASON)
    add_library(Libtorch::cuda INTERFACE IMPORTED)
    target_include_directories(Libtorch::cuda INTERFACE ${Libtorch_NCCL_INCLUDE_DIR})
    target_compile_definitions(Libtorch::cuda INTERFACE USE_C10D_NCCL)
    target_link_libraries(Libtorch::cuda INTERFACE
      ${_torch_keep_cuda} ${Libtorch_C10_CUDA_LIBRARY} Libtorch::cpu CUDA::cudart)
  endif()
endif()
mark_as_advanced(Libtorch_INCLUDE_DIR Libtorch_CPU_LIBRARY Libtorch_C10_LIBRARY Libtorch_CUDA_LIBRARY
                 Libtorch_C10_CUDA_LIBRARY Libtorch_NCCL_INCLUDE_DIR)

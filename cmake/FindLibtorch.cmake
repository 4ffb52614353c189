# Finds libtorch inside a Python wheel of torch, with no need of the CUDA toolkit.
#
# SPILLWAY_TORCH (variable or environment): the folder `torch` of an installation.
# Targets: Libtorch::cpu (libtorch_cpu, libc10) and, with SPILLWAY_CUDA_FOUND, Libtorch::cuda.
set(_hint ${SPILLWAY_TORCH} $ENV{SPILLWAY_TORCH})
find_path(Libtorch_INCLUDE_DIR ATen/ATen.h HINTS ${_hint} PATH_SUFFIXES include)
find_library(Libtorch_CPU_LIBRARY torch_cpu HINTS ${_hint} PATH_SUFFIXES lib)
find_library(Libtorch_C10_LIBRARY c10 HINTS ${_hint} PATH_SUFFIXES lib)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_INCLUDE_DIR Libtorch_CPU_LIBRARY Libtorch_C10_LIBRARY
  REASON_FAILURE_MESSAGE "set SPILLWAY_TORCH to the folder 'torch' of an installation, or run tools/setup.sh")
if(Libtorch_FOUND AND NOT TARGET Libtorch::cpu)
  get_filename_component(Libtorch_LIB_DIR ${Libtorch_CPU_LIBRARY} DIRECTORY)
  add_library(Libtorch::cpu INTERFACE IMPORTED)
  set_target_properties(Libtorch::cpu PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${Libtorch_INCLUDE_DIR};${Libtorch_INCLUDE_DIR}/torch/csrc/api/include"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${Libtorch_INCLUDE_DIR};${Libtorch_INCLUDE_DIR}/torch/csrc/api/include"
    INTERFACE_COMPILE_DEFINITIONS "USE_DISTRIBUTED;USE_C10D_GLOO"
    INTERFACE_LINK_LIBRARIES "${Libtorch_CPU_LIBRARY};${Libtorch_C10_LIBRARY};Threads::Threads")
endif()

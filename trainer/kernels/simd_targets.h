// The SIMD targets that the kernels are compiled for. Included by each kernel before Highway.
//
// Same bits as the reference needs a MulAdd that rounds once. Highway's is a hardware fma on AVX2
// (which it pairs with FMA3), AVX3 and NEON of 64-bit Arm; on SSSE3, SSE4 and 32-bit NEON it is a
// product and a sum, so these are left out and such CPUs run the reference, whose std::fma is
// exact everywhere. SVE and RISC-V are left out because their vectors have no fixed size; SVE
// machines run NEON. Div and Sqrt are IEEE on all that remain.
#pragma once

#define HWY_WANT_AVX3_DL 1  // AVX-512 with VAES, which the hashes are made of

#include <hwy/detect_compiler_arch.h>

// The targets' own names are known only inside Highway; expanded there, after these are defined.
#if HWY_ARCH_ARM_V7
#define HWY_DISABLED_TARGETS (HWY_NEON)
#else
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE_256 | HWY_SVE2 | HWY_SVE2_128 | HWY_RVV)
#endif

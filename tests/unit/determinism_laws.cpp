// What train/determinism.h pins. Each test is a process of its own under ctest, so that the environment is as it was started.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "gru4rec/model/products.h"
#include "gru4rec/train/determinism.h"

namespace gru4rec {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

class Pinned : public ::testing::Test {
 protected:
  Pinned() {
    for (const char* name : {"ATEN_CPU_CAPABILITY", "MKL_CBWR", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA"}) unsetenv(name);
  }
};

TEST_F(Pinned, StrictKernelsPromiseEqualBitsForEqualShapesAndRelaxedOnesDoNot) {
  pin_kernels(Capability::avx2, 1, /*strict=*/false);
  EXPECT_EQ(variable("MKL_CBWR"), "");
  EXPECT_EQ(variable("ATEN_CPU_CAPABILITY"), "avx2");  // ranks on unlike hosts agree on their instructions all the same
  pin_kernels(Capability::avx2, 1, /*strict=*/true);
  EXPECT_EQ(variable("MKL_CBWR"), "AVX2,STRICT");
  EXPECT_EQ(variable("DNNL_MAX_CPU_ISA"), "AVX2");
}

TEST_F(Pinned, EachLibraryIsToldTheInstructionsInItsOwnWords) {
  pin_kernels(Capability::amx, 1, true);
  EXPECT_EQ(variable("ATEN_CPU_CAPABILITY"), "avx512");
  EXPECT_EQ(variable("MKL_CBWR"), "AVX512,STRICT");
  EXPECT_EQ(variable("DNNL_MAX_CPU_ISA"), "AVX512_CORE_AMX");
  EXPECT_EQ(capability_name(Capability::avx512_bf16), "avx512_bf16");
}

TEST_F(Pinned, ProductsOfBf16AreMadeAsTheLowestCapabilityOfAllRanksHasThem) {
  if (processor_capability() < Capability::avx512_bf16) GTEST_SKIP() << "this processor does not multiply bf16";
  const auto in_hardware = [](Capability capability) {
    pin_kernels(capability, 1, true);
    std::exit(bf16_in_hardware() ? 0 : 1);
  };
  EXPECT_EXIT(in_hardware(Capability::avx512_bf16), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(in_hardware(Capability::avx512), ::testing::ExitedWithCode(1), "");
  EXPECT_EXIT(in_hardware(Capability::avx2), ::testing::ExitedWithCode(1), "");
}

TEST_F(Pinned, WhatTheUserSetStays) {
  setenv("ATEN_CPU_CAPABILITY", "default", 1);
  pin_kernels(Capability::avx512, 1, true);
  EXPECT_EQ(variable("ATEN_CPU_CAPABILITY"), "default");
  EXPECT_EQ(variable("MKL_CBWR"), "AVX512,STRICT");
}

TEST_F(Pinned, TheNumberOfThreadsIsTheOneAskedFor) {
  for (int threads : {1, 3}) {
    pin_kernels(Capability::baseline, threads, true);
    EXPECT_EQ(at::get_num_threads(), threads);
  }
}

}  // namespace
}  // namespace gru4rec

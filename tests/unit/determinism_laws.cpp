// What train/determinism.h pins. Each test is a process of its own under ctest, so that the environment is as it was started.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "bf16_tiles.h"
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
  const auto multiplies_by = [](bf16::Multiplier multiplier) {
    return ::testing::ExitedWithCode(static_cast<int>(multiplier));
  };
  const auto pinned_to = [](Capability capability) {
    pin_kernels(capability, 1, true);
    std::exit(static_cast<int>(bf16::multiplier()));
  };
  EXPECT_EXIT(pinned_to(Capability::avx512_bf16), multiplies_by(bf16::Multiplier::vectors), "");
  EXPECT_EXIT(pinned_to(Capability::avx512), multiplies_by(bf16::Multiplier::none), "");
  EXPECT_EXIT(pinned_to(Capability::avx2), multiplies_by(bf16::Multiplier::none), "");
  if (processor_capability() == Capability::amx) {
    EXPECT_EXIT(pinned_to(Capability::amx), multiplies_by(bf16::Multiplier::tiles), "");
  }
}

TEST_F(Pinned, ALimitOfTheUsersIsReadAsOneDnnReadsIt) {
  if (processor_capability() < Capability::avx512_bf16) GTEST_SKIP() << "this processor does not multiply bf16";
  const auto bf16_with = [](const char* onednn, const char* dnnl) {
    setenv("ONEDNN_MAX_CPU_ISA", onednn, 1);
    setenv("DNNL_MAX_CPU_ISA", dnnl, 1);
    std::exit(bf16_in_hardware() ? 0 : 1);
  };
  EXPECT_EXIT(bf16_with("", "avx512_core"), ::testing::ExitedWithCode(1), "");
  EXPECT_EXIT(bf16_with("AVX2", "AVX512_CORE_AMX"), ::testing::ExitedWithCode(1), "");
  EXPECT_EXIT(bf16_with("Avx512_Core_Bf16", "AVX2"), ::testing::ExitedWithCode(0), "");
}

TEST_F(Pinned, WhatKernelsWerePinnedToIsRemembered) {
  pin_kernels(Capability::avx2, 1, true);
  EXPECT_EQ(pinned_capability(), Capability::avx2);
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

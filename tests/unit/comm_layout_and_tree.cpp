// Who owns which replica, and the tree in which their gradients are added.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>

#include "gru4rec/base/error.h"
#include "gru4rec/comm/ordered_sum.h"
#include "gru4rec/comm/replica_layout.h"

namespace gru4rec {
namespace {

constexpr int kMost = 70;  // replicas; every world that fits is tried

TEST(ReplicaLayout, BlocksCoverTheReplicasOnceInOrderAndDifferByAtMostOne) {
  for (int replicas = 1; replicas <= kMost; ++replicas) {
    for (int ranks = 1; ranks <= replicas; ++ranks) {
      const ReplicaLayout layout(replicas, ranks);
      int next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const auto block = layout.replicas_of(rank);
        ASSERT_GE(block.size(), replicas / ranks);
        ASSERT_LE(block.size(), (replicas + ranks - 1) / ranks);
        for (const int replica : block) {
          ASSERT_EQ(replica, next++);
          ASSERT_EQ(layout.owner(replica), rank);
        }
      }
      ASSERT_EQ(next, replicas);
    }
  }
}

TEST(ReplicaLayout, MoreRanksThanReplicasAreRefusedWithTheRemedy) {
  try {
    ReplicaLayout(3, 4);
    FAIL() << "not refused";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("4 ranks for 3 replicas"), std::string::npos) << text;
    EXPECT_NE(text.find("mpirun -np 3"), std::string::npos) << text;
    EXPECT_NE(text.find("--replicas 4"), std::string::npos) << text;
  }
  EXPECT_THROW(ReplicaLayout(0, 1), UserError);
  EXPECT_THROW(ReplicaLayout(3, 2).replicas_of(2), BugError);
  EXPECT_THROW(ReplicaLayout(3, 2).owner(3), BugError);
}

// The tree as text, built from its additions: "((0 1) 2)".
std::string text_of(TreeNode node) {
  if (node.leaf()) return std::to_string(node.first);
  return "(" + text_of(node.left()) + " " + text_of(node.right()) + ")";
}

TEST(SumTree, IsBalancedAndHalvesPowersOfTwo) {
  EXPECT_EQ(text_of({0, 1}), "0");
  EXPECT_EQ(text_of({0, 3}), "((0 1) 2)");
  EXPECT_EQ(text_of({0, 5}), "(((0 1) (2 3)) 4)");
  EXPECT_EQ(text_of({0, 7}), "(((0 1) (2 3)) ((4 5) 6))");
  EXPECT_EQ(text_of({0, 8}), "(((0 1) (2 3)) ((4 5) (6 7)))");
}

struct Symbol {
  std::string text;
  Symbol operator+(const Symbol& other) const { return {"(" + text + " " + other.text + ")"}; }
};

TEST(SumTree, ASumOfValuesTakesTheSameTree) {
  for (int replicas = 1; replicas <= kMost; ++replicas) {
    std::vector<Symbol> leaves;
    for (int replica = 0; replica < replicas; ++replica) leaves.push_back({std::to_string(replica)});
    ASSERT_EQ(tree_sum(std::span<const Symbol>(leaves)).text, text_of({0, replicas}));
  }
  EXPECT_EQ(tree_sum(std::span<const double>()), 0.0);
}

// Merging as a rank does it leaves exactly the maximal subtrees, each added up as the tree says, in the buffers promised.
TEST(SumTree, MergingOnARankGivesItsMaximalSubtreesInTheBuffersPromised) {
  for (int replicas = 1; replicas <= kMost; ++replicas) {
    for (int first = 0; first < replicas; ++first) {
      for (int last = first + 1; last <= replicas; ++last) {
        std::vector<Symbol> stack;
        std::size_t most = 0;
        const std::vector<int> merges = merges_after(replicas, first, last);
        for (int replica = first; replica < last; ++replica) {
          stack.push_back({std::to_string(replica)});
          most = std::max(most, stack.size());
          for (int k = 0; k < merges[static_cast<std::size_t>(replica - first)]; ++k) {
            const Symbol right = stack.back();
            stack.pop_back();
            stack.back() = stack.back() + right;
          }
        }
        const std::vector<TreeNode> nodes = maximal_subtrees(replicas, first, last);
        ASSERT_EQ(stack.size(), nodes.size());
        for (std::size_t i = 0; i < nodes.size(); ++i) ASSERT_EQ(stack[i].text, text_of(nodes[i]));
        ASSERT_EQ(static_cast<int>(most), sum_buffers(replicas, first, last));
      }
    }
  }
}

int ceil_log2(int n) { return static_cast<int>(std::bit_width(static_cast<unsigned>(n) - 1)); }
int floor_log2(int n) { return static_cast<int>(std::bit_width(static_cast<unsigned>(n))) - 1; }

TEST(SumTree, ARankNeedsNoMoreBuffersThanTheFormulaSays) {
  bool reached = false;
  for (int replicas = 1; replicas <= 200; ++replicas) {
    for (int first = 0; first < replicas; ++first) {
      for (int last = first + 1; last <= replicas; ++last) {
        const int n = last - first, buffers = sum_buffers(replicas, first, last);
        ASSERT_LE(buffers, 2 * floor_log2(n) + 1) << "replicas " << first << " … " << last << " of " << replicas;
        reached = reached || (n > 8 && buffers == 2 * floor_log2(n) + 1);
        if (maximal_subtrees(replicas, first, last).size() == 1) {
          ASSERT_LE(buffers, ceil_log2(n) + 1);
        }
      }
    }
  }
  EXPECT_TRUE(reached) << "the formula promises too little";
}

TEST(SumTree, PowersOfTwoNeedOneMoreBufferThanTheLogarithm) {
  for (int replicas = 1; replicas <= 64; replicas *= 2)
    for (int ranks = 1; ranks <= replicas; ranks *= 2)
      for (int rank = 0; rank < ranks; ++rank) {
        const auto block = ReplicaLayout(replicas, ranks).replicas_of(rank);
        EXPECT_EQ(sum_buffers(replicas, block.first, block.last), ceil_log2(block.size()) + 1);
        EXPECT_EQ(maximal_subtrees(replicas, block.first, block.last).size(), 1U);
      }
}

TEST(OrderedSumBuffers, StartAtCacheLinesAndComeFilledWithZeros) {
  OrderedSum sum(ReplicaLayout(5, 1), 0, 19);
  EXPECT_EQ(sum.buffers(), 3);
  for (int step = 0; step < 2; ++step) {
    for (int replica = 0; replica < 5; ++replica) {
      const std::span<float> gradient = sum.begin(replica);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(gradient.data()) % 64, 0U);
      for (float& value : gradient) {
        EXPECT_EQ(value, 0.0F);
        value = 1.0F;
      }
      sum.end(replica);
    }
  }
}

TEST(OrderedSumBuffers, ReplicasOutOfOrderAreRefused) {
  OrderedSum sum(ReplicaLayout(4, 2), 1, 3);
  EXPECT_THROW(sum.begin(0), BugError);  // another rank's
  EXPECT_THROW(sum.begin(3), BugError);  // 2 comes first
  EXPECT_THROW(sum.end(2), BugError);
  sum.begin(2);
  EXPECT_THROW(sum.begin(2), BugError);
  sum.end(2);
  sum.begin(3);
  sum.end(3);
  EXPECT_THROW(sum.begin(3), BugError);
  EXPECT_NO_THROW(sum.begin(2));  // the next step
}

}  // namespace
}  // namespace gru4rec

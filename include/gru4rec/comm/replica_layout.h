// Which rank runs which replicas. A replica is a logical worker with its share of every batch; a rank is a process.
#pragma once

namespace gru4rec {

// R replicas over W ranks in contiguous blocks; sizes differ by at most one and the larger ones come first. Plain values,
// no communication: a test can ask for any rank. Local.
//
//   ReplicaLayout layout(7, 3);              // [0,3) [3,5) [5,7)
//   for (int replica : layout.replicas_of(rank)) …
class ReplicaLayout {
 public:
  // Replicas [begin, end) of one rank.
  struct Block {
    int first;
    int last;  // one past
    int size() const { return last - first; }
    struct Iterator {
      int replica;
      int operator*() const { return replica; }
      Iterator& operator++() {
        ++replica;
        return *this;
      }
      bool operator!=(const Iterator& other) const { return replica != other.replica; }
    };
    Iterator begin() const { return {first}; }
    Iterator end() const { return {last}; }
  };

  // Throws UserError if there are more ranks than replicas, or no replica.
  ReplicaLayout(int replicas, int ranks);

  int replicas() const { return replicas_; }
  int ranks() const { return ranks_; }
  Block replicas_of(int rank) const;
  int owner(int replica) const;

 private:
  int replicas_;
  int ranks_;
};

}  // namespace gru4rec

// Existing means complete.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/error.h"
#include "support/hostile.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::read_whole;
using testing::TemporaryFolder;
using testing::write_whole;
namespace fs = std::filesystem;

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

template <typename Work>
std::string surroundings_error(Work work) {
  try {
    work();
  } catch (const SurroundingsError& error) {
    return error.what();
  }
  return "no error";
}

TEST(AtomicFile, FormerContentStaysUntilCommitAndTheNewOneIsThereAfterIt) {
  const TemporaryFolder folder;
  write_whole(folder / "a", "former");
  AtomicFile out(folder / "a");
  out.write("new", 3);
  out.write("er", 2);
  EXPECT_EQ(read_whole(folder / "a"), "former");
  out.commit();
  EXPECT_EQ(read_whole(folder / "a"), "newer");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, WhatIsNotCommittedLeavesNothing) {
  const TemporaryFolder folder;
  {
    AtomicFile out(folder / "a");
    out.write("new", 3);
  }
  EXPECT_EQ(files_in(folder.path()), 0u);
}

TEST(AtomicFile, AFileThatWasMovedIsRemovedOnceAndCommittedOnce) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "a");
  first.write("x", 1);
  AtomicFile second(std::move(first));
  second.commit_as(folder / "b");
  EXPECT_EQ(read_whole(folder / "b"), "x");
  EXPECT_THROW(second.commit(), BugError);
}

TEST(AtomicFile, TwoWritersOfOneNameDoNotDisturbEachOther) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "a"), second(folder / "a");
  first.write("first", 5);
  second.write("second", 6);
  second.commit();
  first.commit();
  EXPECT_EQ(read_whole(folder / "a"), "first");
}

TEST(AtomicFile, RemainsOfAKilledProcessAreRemovedAndThoseOfALivingOneAreNot) {
  const TemporaryFolder folder;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile out(folder / "a");
    out.write("half", 4);
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  remove_stale_temporaries(folder.path());
  EXPECT_EQ(files_in(folder.path()), 1u) << "the child lives";
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  remove_stale_temporaries(folder.path());
  EXPECT_EQ(files_in(folder.path()), 0u) << "the child is dead";
}

TEST(AtomicFile, OtherFilesAreNoTemporaryFiles) {
  const TemporaryFolder folder;
  for (const char* name : {"a.tmp-1-2", ".hidden", "notes.tmp", ".tmpfile"}) write_whole(folder / name, "keep");
  remove_stale_temporaries(folder.path());
  EXPECT_EQ(files_in(folder.path()), 4u);
}

TEST(AtomicFile, ErrorsNamePathCauseAndRemedy) {
  const TemporaryFolder folder;
  EXPECT_THAT(surroundings_error([&] { AtomicFile out(folder / "missing" / "a"); }),
              AllOf(HasSubstr("cannot create"), HasSubstr("missing"), HasSubstr("No such file or directory"),
                    HasSubstr("Check the path")));
  fs::create_directory(folder / "b");
  AtomicFile onto_folder(folder / "b");
  EXPECT_THAT(surroundings_error([&] { onto_folder.commit(); }),
              AllOf(HasSubstr("cannot rename"), HasSubstr("Is a directory")));
  const int full = ::open("/dev/full", O_WRONLY);
  EXPECT_THAT(surroundings_error([&] { write_at(full, "x", 1, 0, "/dev/full"); }),
              AllOf(HasSubstr("cannot write /dev/full: No space left on device"), HasSubstr("Free some space")));
  ::close(full);
}

TEST(AtomicFile, ReadingBeyondTheEndIsTheUsersError) {
  const TemporaryFolder folder;
  write_whole(folder / "a", "12345");
  const int fd = ::open((folder / "a").c_str(), O_RDONLY);
  char bytes[8];
  EXPECT_NO_THROW(read_at(fd, bytes, 2, 3, folder / "a"));
  EXPECT_EQ(std::string(bytes, 2), "45");
  EXPECT_THROW(read_at(fd, bytes, 3, 3, folder / "a"), UserError);
  ::close(fd);
}

}  // namespace
}  // namespace gru4rec

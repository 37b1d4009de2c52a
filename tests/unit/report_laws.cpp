// Laws of what a run leaves for people to look at: event files and pages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/report/event_files.h"
#include "gru4rec/report/report.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

using Found = std::set<std::pair<int64_t, std::string>>;

// What the files of a folder hold, by step.
Found found_in(const fs::path& folder) {
  Found found;
  EventFiles(folder).cut([&](int64_t step, const std::string& tag) { return found.emplace(step, tag).second; });
  return found;
}

std::vector<fs::path> files_of(const fs::path& folder) { return {fs::directory_iterator(folder), fs::directory_iterator()}; }

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(EventFiles, ChecksumIsThatOfRfc3720) {
  const std::string zeros(32, '\0'), ones(32, '\xff'), digits = "123456789";
  EXPECT_EQ(crc32c(zeros), 0x8a9136aau);
  EXPECT_EQ(crc32c(ones), 0x62a8ab43u);
  EXPECT_EQ(crc32c(digits), 0xe3069283u);
}

TEST(EventFiles, EachStartHasAFileAndACutGoesThroughAll) {
  const TemporaryFolder folder;
  const fs::path events = folder / "tensorboard";
  for (int64_t start = 0; start < 2; ++start) {
    EventFiles files(events);
    for (int64_t step = 1; step <= 3; ++step) files.add(10 * start + step, {{{"a", 0.5}, {"b", 2.0}}});
  }
  EXPECT_EQ(files_of(events).size(), 2u);
  EXPECT_EQ(found_in(events).size(), 12u);
  EventFiles(events).cut([](int64_t step, const std::string&) { return step <= 2; });
  EXPECT_THAT(found_in(events), ElementsAre(std::pair(1, "a"), std::pair(1, "b"), std::pair(2, "a"), std::pair(2, "b")));
  EXPECT_EQ(files_of(events).size(), 1u) << "a file without scalars is of no use";
  EventFiles(events).cut([](int64_t step, const std::string& tag) { return step != 1 || tag != "b"; });
  EXPECT_THAT(found_in(events), ElementsAre(std::pair(2, "a"), std::pair(2, "b"))) << "an event goes as a whole";
}

TEST(EventFiles, AnEventHasTheTimeItIsGiven) {
  const TemporaryFolder folder;
  constexpr double kTime = 1'234'567'890.5;
  {
    EventFiles files(folder / "tensorboard");
    files.add(1, {{{"a", 1.0}}}, kTime);
  }
  std::array<char, sizeof kTime> bytes{};
  std::memcpy(bytes.data(), &kTime, sizeof kTime);
  EXPECT_NE(bytes_of(files_of(folder / "tensorboard").front()).find({bytes.data(), bytes.size()}), std::string::npos);
}

TEST(EventFiles, ACutEndsBeforeTheFirstRecordThatIsTornOrDamaged) {
  const TemporaryFolder folder;
  const fs::path events = folder / "tensorboard";
  {
    EventFiles files(events);
    for (int64_t step = 1; step <= 2; ++step) files.add(step, {{{"a", 1.0}}});
  }
  const fs::path file = files_of(events).front();
  const std::string whole = bytes_of(file);
  const std::string head = "brain.Event:2";
  const size_t record = (whole.size() - whole.find(head) - head.size() - sizeof(uint32_t)) / 2;  // bytes of one
  ASSERT_GT(record, 20u);
  for (size_t missing = 1; missing < record; ++missing) {
    std::ofstream(file, std::ios::binary) << whole.substr(0, whole.size() - missing);
    EXPECT_THAT(found_in(events), ElementsAre(std::pair(1, "a"))) << missing << " bytes are missing";
    EXPECT_LT(bytes_of(file).size(), whole.size() - missing) << "what is left of the record was not removed";
  }
  for (size_t back = 1; back <= record; ++back) {
    std::string damaged = whole;
    damaged[damaged.size() - back] ^= 0x10;
    std::ofstream(file, std::ios::binary) << damaged;
    EXPECT_THAT(found_in(events), ElementsAre(std::pair(1, "a"))) << "a bit of byte -" << back << " is wrong";
  }
}

TEST(Report, NothingInANameBecomesMarkup) {
  const std::string hostile = "x</script><b>&amp;\"'\xff\n@SCRIPT@ <!--";
  const std::string page = report_page(hostile, {{"kind", "none"}, {"name", hostile}});
  const std::string plain = report_page("x", {{"kind", "none"}, {"name", "x"}});
  const auto count = [](const std::string& text, const std::string& what) {
    size_t times = 0;
    for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++times;
    return times;
  };
  for (const char* markup : {"<b>", "</script>", "<!--", "<"})
    EXPECT_EQ(count(page, markup), count(plain, markup)) << markup << " got through";
  EXPECT_EQ(count(page, "@SCRIPT@"), 2u) << "what looks like a mark in a name stays text";
  EXPECT_THAT(page, HasSubstr("<title>x&lt;/script&gt;&lt;b&gt;&amp;amp;"));
  const std::string begin = "id=\"data\">";
  const size_t from = page.find(begin) + begin.size();
  const auto data = nlohmann::json::parse(page.substr(from, page.find("</script>", from) - from));
  EXPECT_THAT(data["name"].get<std::string>(), HasSubstr("x</script><b>&amp;\"'")) << "a browser reads what was meant";
}

TEST(Report, AFolderThatHoldsNoRunIsRefused) {
  const TemporaryFolder folder;
  EXPECT_THROW(write_run_report(folder / "nothing"), UserError);
  EXPECT_THROW(write_tune_report(folder / "nothing"), UserError);
  EXPECT_FALSE(fs::exists(folder / "nothing"));
}

}  // namespace
}  // namespace gru4rec

#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <sstream>

#include "commands.h"
#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/error.h"
#include "gru4rec/serve/requests.h"
#include "program.h"
#include "world.h"

namespace gru4rec {
namespace {

// Lines of a file descriptor as they come: those that are there already together, one that comes alone at once.
class Lines {
 public:
  explicit Lines(int fd) : fd_(fd) {}

  // Waits for a line, and takes with it what else is there, up to `most`. Empty at the end.
  std::vector<std::string> next(size_t most) {
    while (!ended_ && lines_.empty()) read_some();
    while (!ended_ && lines_.size() < most && more_is_there()) read_some();
    std::vector<std::string> taken;
    for (; taken.size() < most && !lines_.empty(); lines_.pop_front()) taken.push_back(std::move(lines_.front()));
    return taken;
  }

 private:
  bool more_is_there() const {
    pollfd waiting{fd_, POLLIN, 0};
    return ::poll(&waiting, 1, 0) > 0;
  }

  void read_some() {
    char buffer[1 << 16];
    const ssize_t bytes = ::read(fd_, buffer, sizeof buffer);
    if (bytes < 0 && errno == EINTR) return;
    if (bytes < 0) throw_io_error("read", "standard input", errno);
    ended_ = bytes == 0;
    const char* from = buffer;
    for (const char* end = buffer + bytes; from < end;) {
      const char* newline = std::find(from, end, '\n');
      begun_.append(from, newline);
      if (newline == end) break;
      lines_.push_back(std::move(begun_));
      begun_.clear();
      from = newline + 1;
    }
    if (ended_ && !begun_.empty()) lines_.push_back(std::move(begun_));  // the last line needs no newline
  }

  int fd_;
  bool ended_ = false;
  std::string begun_;  // the line that has no end yet
  std::deque<std::string> lines_;
};

void write_out(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  throw_io_error("write", "standard output", errno);
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

RequestDefaults defaults_of(const RecommendRequest& request) {
  RequestDefaults defaults{.k = request.k, .exclude_seen = request.exclude_seen, .exclude = {}};
  for (const std::string& list : request.exclude)
    for (std::string& id : words_of(list)) defaults.exclude.push_back(std::move(id));
  return defaults;
}

void answer_arguments(const Answerer& answerer, const RecommendRequest& request) {
  const RequestDefaults defaults = defaults_of(request);
  std::vector<Request> requests;
  for (const std::string& session : request.sessions)
    requests.push_back({.line = 0,
                        .session = words_of(session),
                        .exclude = defaults.exclude,
                        .k = defaults.k,
                        .exclude_seen = defaults.exclude_seen,
                        .id = {},
                        .error = {}});
  write_out(answerer.answer(requests));
}

// Until standard input ends; then throws UserError if lines were no requests.
void answer_lines(const Answerer& answerer, const RequestDefaults& defaults, size_t most) {
  if (::isatty(STDIN_FILENO)) spdlog::info("reading sessions, one JSON object a line: {{\"session\": [\"ID\", \"ID\"]}}");
  Lines input(STDIN_FILENO);
  int64_t line = 0, wrong = 0;
  std::string first_error;
  for (std::vector<std::string> lines = input.next(most); !lines.empty(); lines = input.next(most)) {
    std::vector<Request> requests;
    for (const std::string& text : lines) {
      ++line;
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;  // a blank line asks for nothing
      requests.push_back(parse_request(text, line, defaults));
      if (requests.back().error.empty()) continue;
      if (wrong++ == 0) first_error = fmt::format("line {}: {}", line, requests.back().error);
    }
    write_out(answerer.answer(requests));
  }
  if (wrong > 0)
    throw UserError(
        "{} of {} lines could not be read, and have an answer that says why; the first is {} The others were answered.", wrong,
        line, first_error);
}

}  // namespace

int run_recommend(const RecommendRequest& request) {
  if (launched_rank() > 0) throw UserError("recommend is one process, got several ranks. Start it without mpirun.");
  const ServedModel served = open_model(request.checkpoint, request.overrides);
  require_forward(served, "recommend");
  const Answerer answerer(served);
  spdlog::debug("{} items, {}", served.catalogue().item_names.size(), served.file.string());
  if (request.sessions.empty())
    answer_lines(answerer, defaults_of(request), static_cast<size_t>(served.options.eval_batch_size));
  else
    answer_arguments(answerer, request);
  return kExitDone;
}

}  // namespace gru4rec

#include "gru4rec/base/search_space.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/nearest.h"
#include "gru4rec/base/random.h"
#include "gru4rec/base/text.h"
#include "option_codecs.h"

namespace gru4rec {
namespace {

constexpr int64_t kMostPoints = 1'000'000;
constexpr int64_t kDrawsAPoint = 100;  // before a finite space is taken to have no other point

// "0.1, 0.5" → two numbers.
std::vector<double> numbers_of(const std::string& values, size_t wanted, const std::string& kind, const char* names) {
  std::vector<double> numbers;
  std::stringstream fields(values);
  for (std::string field; std::getline(fields, field, ',');) {
    size_t used = 0;
    double number = 0;
    try {
      number = std::stod(field, &used);
    } catch (const std::exception&) {
    }
    if (used == 0 || !trimmed(field.substr(used)).empty() || !std::isfinite(number))
      throw UserError("got '{}' for {}, wanted {}.", values, kind, names);
    numbers.push_back(number);
  }
  if (numbers.size() != wanted || numbers[0] > numbers[1]) throw UserError("got '{}' for {}, wanted {}.", values, kind, names);
  return numbers;
}

}  // namespace

SearchSpace::Dimension SearchSpace::dimension_of(const std::string& key, const std::string& kind, const std::string& values) {
  static const std::vector<std::string> kinds = {"choice", "uniform", "quniform", "loguniform"};
  const auto found = std::ranges::find(kinds, kind);
  if (found == kinds.end()) {
    const std::string near = nearest(kind, kinds);
    throw UserError("got '{}' for {}, wanted choice, uniform, quniform or loguniform{}", kind, key,
                    near.empty() ? "." : "; did you mean '" + near + "'?");
  }
  Dimension dimension{.key = key, .place = {}, .kind = static_cast<Kind>(found - kinds.begin()), .choices = {}};
  switch (dimension.kind) {
    case Kind::choice: {
      const YAML::Node list = codecs::parsed(values);
      if (!list.IsSequence() || list.size() == 0)
        throw UserError("got {} to choose from for {}, wanted a list such as [0.01,0.001].", values, key);
      for (const YAML::Node& value : list)
        dimension.choices.push_back(value.IsScalar() ? value.Scalar() : codecs::shown(value));
      break;
    }
    case Kind::quniform: {
      const std::vector<double> numbers = numbers_of(values, 3, kind, "low,high,step, such as 512,4096,256");
      if (numbers[2] <= 0) throw UserError("got a step of {} for {}, wanted one above 0.", numbers[2], key);
      dimension.step = numbers[2];
      dimension.low = numbers[0], dimension.high = numbers[1];
      break;
    }
    default: {
      const std::vector<double> numbers = numbers_of(values, 2, kind, "low,high, such as 0,0.5");
      dimension.low = numbers[0], dimension.high = numbers[1];
    }
  }
  return dimension;
}

SearchSpace SearchSpace::read(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in)
    throw UserError("cannot read the search space {}: {}. Check the path and its permissions.", file.string(),
                    errno_text(errno));
  SearchSpace space;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    std::istringstream fields(line.substr(0, line.find('#')));
    std::string key, kind, values;
    fields >> key >> kind;
    std::getline(fields, values);
    values = trimmed(values);
    if (key.empty()) continue;
    try {
      if (values.empty()) throw UserError("got '{}', wanted KEY KIND VALUES, such as: learning_rate choice [0.01,0.001]", line);
      for (const Dimension& other : space.dimensions_)
        if (other.key == key) throw UserError("{} is there twice; keep one of the lines.", key);
      space.dimensions_.push_back(dimension_of(key, kind, values));
      space.dimensions_.back().place = fmt::format("{}:{}", file.string(), number);
    } catch (const UserError& error) {
      throw UserError("{}:{}: {}", file.string(), number, error.what());
    }
  }
  if (space.dimensions_.empty())
    throw UserError("{} names no option to try, wanted lines such as: learning_rate choice [0.01,0.001]", file.string());
  return space;
}

std::vector<std::string> SearchSpace::keys() const {
  std::vector<std::string> keys;
  for (const Dimension& dimension : dimensions_) keys.push_back(dimension.key);
  return keys;
}

bool SearchSpace::finite() const {
  return std::ranges::all_of(dimensions_, [](const Dimension& dimension) { return dimension.kind == Kind::choice; });
}

std::vector<SearchPoint> SearchSpace::every() const {
  std::vector<SearchPoint> points(1);
  for (const Dimension& dimension : dimensions_) {
    if (dimension.kind != Kind::choice) throw BugError("every point of a space that has a range of {}", dimension.key);
    std::vector<SearchPoint> longer;
    if (static_cast<int64_t>(points.size() * dimension.choices.size()) > kMostPoints)
      throw UserError("the space has more than {} points. Draw some of them: --algo random --max_evals N.", kMostPoints);
    for (const SearchPoint& point : points)
      for (const std::string& choice : dimension.choices) {
        longer.push_back(point);
        longer.back().push_back({dimension.key, choice, dimension.place});
      }
    points = std::move(longer);
  }
  return points;
}

std::string SearchSpace::drawn(const Dimension& dimension, uint64_t draw, uint64_t seed) {
  const Stream random{seed, Purpose::search, draw, hash_bytes(dimension.key.data(), dimension.key.size())};
  const double at = dimension.low + random.uniform(0) * (dimension.high - dimension.low);
  switch (dimension.kind) {
    case Kind::choice:
      return dimension.choices[random.below(0, dimension.choices.size())];
    case Kind::quniform:
      return fmt::format("{}", std::round(at / dimension.step) * dimension.step);
    case Kind::loguniform:
      return fmt::format("{}", std::exp(at));
    default:
      return fmt::format("{}", at);
  }
}

std::vector<SearchPoint> SearchSpace::random(int64_t count, uint64_t seed) const {
  std::vector<SearchPoint> points;
  std::set<std::vector<std::string>> seen;
  for (int64_t draw = 0, missed = 0; static_cast<int64_t>(points.size()) < count && missed < kDrawsAPoint * count; ++draw) {
    SearchPoint point;
    std::vector<std::string> values;
    for (const Dimension& dimension : dimensions_) {
      values.push_back(drawn(dimension, static_cast<uint64_t>(draw), seed));
      point.push_back({dimension.key, values.back(), dimension.place});
    }
    seen.insert(values).second ? points.push_back(std::move(point)) : void(++missed);
  }
  return points;
}

}  // namespace gru4rec

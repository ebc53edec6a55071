// error.h: the two errors that bad input can raise. Both are raised at the public door only; below it, assertions.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace thalweg {

struct TypeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};  // Python: TypeError
using ValueError = std::invalid_argument;  // Python: ValueError
struct NonFinite : std::runtime_error {
  using std::runtime_error::runtime_error;
};  // Python: thalweg.DivergedError

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream s;
  (s << ... << parts);
  return s.str();
}
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw ValueError(text(parts...));
}

}  // namespace thalweg

// attrs.h: the constant arguments of an operator (stride, axes, eps, ...), read once when a plan is built.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "../tensor/error.h"

namespace thalweg {

using Attr = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>>;

class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<std::pair<const std::string, Attr>> list) : map_(list) {}
  void set(const std::string& name, Attr value) { map_[name] = std::move(value); }
  bool has(const std::string& name) const { return map_.count(name) > 0; }
  bool flag(const std::string& name, bool otherwise = false) const { return get<bool>(name, otherwise); }
  int64_t integer(const std::string& name) const { return need<int64_t>(name); }
  int64_t integer(const std::string& name, int64_t otherwise) const { return get<int64_t>(name, otherwise); }
  double real(const std::string& name) const {
    if (auto* i = std::get_if<int64_t>(&at(name))) return double(*i);
    return need<double>(name);
  }
  double real(const std::string& name, double otherwise) const { return has(name) ? real(name) : otherwise; }
  std::string text(const std::string& name, const std::string& otherwise) const {
    return get<std::string>(name, otherwise);
  }
  const std::vector<int64_t>& ints(const std::string& name) const { return need<std::vector<int64_t>>(name); }
  const std::map<std::string, Attr>& all() const { return map_; }

 private:
  const Attr& at(const std::string& name) const {
    auto it = map_.find(name);
    if (it == map_.end()) fail("attribute '", name, "' is missing");
    return it->second;
  }
  template <class T>
  const T& need(const std::string& name) const {
    if (auto* p = std::get_if<T>(&at(name))) return *p;
    fail("attribute '", name, "' has the wrong type");
  }
  template <class T>
  T get(const std::string& name, T otherwise) const {
    return has(name) ? need<T>(name) : otherwise;
  }
  std::map<std::string, Attr> map_;
};

}  // namespace thalweg

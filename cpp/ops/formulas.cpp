#include "formulas.h"

namespace thalweg {
namespace {

FormulaParts all_formulas() {
  static const std::vector<Formula> parts[] = {math_formulas(), train_formulas(), scalar_formulas()};
  return parts;
}

}  // namespace

bool formula(const std::string& name, Number number, std::span<const Buffer> in, Buffer out, int64_t n) {
  const Formula* found = find_formula(all_formulas(), name, in.size());
  if (found) found->run(number, in, out, n);
  return found != nullptr;
}

std::vector<std::pair<std::string, size_t>> formula_names() {
  std::vector<std::pair<std::string, size_t>> names;
  for (const auto& part : all_formulas())
    for (const Formula& f : part) names.emplace_back(f.name, f.arguments);
  return names;
}

}  // namespace thalweg

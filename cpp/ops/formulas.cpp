#include "formulas.h"

namespace thalweg {

bool formula(const std::string& name, Number number, std::span<const Buffer> in, Buffer out, int64_t n) {
  static const std::vector<std::vector<Formula>> tables{math_formulas(), train_formulas(), scalar_formulas()};
  for (const auto& table : tables)
    for (const Formula& f : table)
      if (name == f.name && in.size() == f.arguments) {
        f.run(number, in, out, n);
        return true;
      }
  return false;
}

}  // namespace thalweg

// rates.h: update rules and tables of rates, as Python hands them over.
#pragma once
#include "arrays.h"

namespace thalweg::bindings {

inline constexpr int64_t kRateFields = 8;  // the columns of a table: RATE_FIELDS
using RateTable = py::array_t<double, py::array::c_style | py::array::forcecast>;

template <class T>
T get(const py::dict& d, const char* name, T otherwise) {
  return d.contains(name) ? d[name].cast<T>() : otherwise;
}

UpdateRule parse_rule(const py::dict& d);
std::vector<Rates> rates_of(const RateTable& table);  // one for each row of columns
void bind_update(py::module_& m);

}  // namespace thalweg::bindings

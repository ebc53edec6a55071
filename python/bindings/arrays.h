// arrays.h: NumPy arrays at the door of the engine. thalweg.arrays has made them contiguous, aligned and of the right
// dtype; what is not is refused here, so that no memory is ever misread.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "../../cpp/plan/function.h"
#include "../../cpp/plan/session.h"

namespace thalweg::bindings {

namespace py = pybind11;

DType parse_dtype(const std::string& name);
Precision parse_precision(const std::string& name);  // "full" or "bf16"
Shape shape_of(const py::array& a);
py::array empty(const Shape& shape, DType dtype, Kind kind = Kind::real);
// The address of an array's first element; checks dtype, order, alignment and shape. what: "input 0" and the like.
const std::byte* address(const py::array& a, DType dtype, Kind kind, const Shape& expected, const std::string& what);
// Class numbers as contiguous int32, the array itself where it is that already; None where a value is no integer in
// [0, classes), or the array is of a kind that only thalweg.arrays knows to convert or to refuse.
py::object class_numbers(const py::array& a, int64_t classes);
bool is_cpu(const std::string& device);  // "cpu", not "cuda"; refuses others
inline std::byte* address(py::array& a) { return static_cast<std::byte*>(a.mutable_data()); }

SessionConfig parse_config(const py::dict& d);
// Arrays that hold the rows of every input of `r`; without the last `missing` of them.
Batch data_of(const Recorded& r, DType dtype, const std::vector<py::array>& arrays, int missing);

void bind_graph(py::module_& m);
void bind_function(py::module_& m);
void bind_session(py::module_& m);
void bind_sweep(py::module_& m);
void bind_session_state(py::class_<Session>& c);
void bind_comm(py::module_& m);
void bind_tools(py::module_& m);
std::map<std::string, py::array> gradient_arrays(const Session& s, double count);  // means: sums over count

}  // namespace thalweg::bindings

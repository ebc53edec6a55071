#include "arrays.h"

namespace thalweg::bindings {
namespace {

py::dtype numpy_dtype(DType dtype, Kind kind) {
  if (kind == Kind::index) return py::dtype::of<int32_t>();
  return dtype == DType::f32 ? py::dtype::of<float>() : py::dtype::of<double>();
}

}  // namespace

DType parse_dtype(const std::string& name) {
  if (name == "float32") return DType::f32;
  if (name == "float64") return DType::f64;
  throw TypeError("dtype '" + name + "' is not supported; use float32 or float64");
}

Shape shape_of(const py::array& a) {
  Shape s;
  for (py::ssize_t i = 0; i < a.ndim(); i++) s.push_back(a.shape(i));
  return s;
}

py::array empty(const Shape& shape, DType dtype, Kind kind) {
  return py::array(numpy_dtype(dtype, kind), shape.vector());
}

const std::byte* address(const py::array& a, DType dtype, Kind kind, const Shape& expected, const std::string& what) {
  const py::dtype want = numpy_dtype(dtype, kind);
  if (!a.dtype().is(want) && !a.dtype().equal(want))
    throw TypeError(what + " has dtype " + std::string(py::str(a.dtype())) + ", expected " +
                    std::string(py::str(want)));
  if (!(shape_of(a) == expected)) fail(what, " has shape ", shape_of(a), ", expected ", expected);
  const auto at = reinterpret_cast<uintptr_t>(a.data());
  if (!(a.flags() & py::array::c_style) || at % size_t(want.itemsize()) != 0)
    fail(what, " is not a contiguous, aligned array");
  return reinterpret_cast<const std::byte*>(at);
}

}  // namespace thalweg::bindings

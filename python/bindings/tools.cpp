#include "../../cpp/formula/random.h"
#include "../../cpp/ops/kernels.h"
#include "../../cpp/plan/cuda.h"
#include "../../cpp/plan/isa.h"
#include "arrays.h"

namespace thalweg::bindings {
namespace {

py::array fill_random(const std::string& distribution, double a, double b, uint64_t seed, const std::string& stream,
                      const std::vector<int64_t>& shape, const std::string& dtype) {
  const Shape s{std::span(shape.data(), shape.size())};
  const DType type = parse_dtype(dtype);
  check_not_forked();
  py::array out = allocating([&] { return text("'", stream, "', shape ", s); }, [&] { return empty(s, type); });
  std::byte* to = address(out);
  py::gil_scoped_release unlocked;
  std::scoped_lock lock(shared_pool_mutex());
  kernels().fill_random({shared_pool(0)}, type, distribution, a, b, seed, stream_key(stream), to, s.size());
  return out;
}

py::array permutation(int64_t n, uint64_t seed, const std::string& stream) {
  if (n < 0) fail("permutation of ", n, " items");
  py::array_t<int64_t> out(n);
  int64_t* to = out.mutable_data();
  py::gil_scoped_release unlocked;
  kernels().permutation(seed, stream_key(stream), to, n);
  return out;
}

// Arguments as planes: `values` and, for duals, `tangents`.
py::object run_formula(const std::string& name, const std::vector<py::array>& values,
                       const std::vector<py::array>& tangents, const std::string& device) {
  if (values.empty()) fail("formula '", name, "' needs an argument");
  const DType dtype = parse_dtype(std::string(py::str(values[0].dtype())));
  const bool dual = !tangents.empty();
  const Shape shape = shape_of(values[0]);
  const int64_t n = shape.size(), plane = align_up(n * bytes_of(dtype)) / bytes_of(dtype), bytes = n * bytes_of(dtype);
  std::vector<Arena> planes;
  std::vector<Buffer> in;
  for (size_t i = 0; i < values.size(); i++) {
    planes.emplace_back((dual ? 2 : 1) * plane * bytes_of(dtype));
    std::memcpy(planes.back().data(), address(values[i], dtype, Kind::real, shape, "argument"), bytes);
    if (dual)
      std::memcpy(planes.back().data() + plane * bytes_of(dtype),
                  address(tangents[i], dtype, Kind::real, shape, "tangent"), bytes);
    in.push_back({planes.back().data(), dual ? plane : 0});
  }
  Arena result(2 * plane * bytes_of(dtype));
  const auto run = is_cpu(device) ? kernels().formula : cuda().formula;
  if (!run(name, number_of(dtype, dual), in, {result.data(), dual ? plane : 0}, n))
    fail("there is no formula '", name, "' of ", values.size(), " arguments");
  py::array out = empty(shape, dtype), out_tangent = empty(shape, dtype);
  std::memcpy(address(out), result.data(), bytes);
  if (!dual) return out;
  std::memcpy(address(out_tangent), result.data() + plane * bytes_of(dtype), bytes);
  return py::make_tuple(out, out_tangent);
}

// The first element (in memory) that is NaN or infinite, or -1.
int64_t first_non_finite(const py::array& x) {
  const bool is_float = py::isinstance<py::array_t<float>>(x), is_double = py::isinstance<py::array_t<double>>(x);
  if (!(x.flags() & py::array::c_style) || !(is_float || is_double))
    throw TypeError("first_non_finite takes contiguous arrays of float32 or float64");
  const DType t = is_float ? DType::f32 : DType::f64;
  static auto& pool = *make_pool(1).release();  // never destroyed; the interpreter lock is held
  return kernels().first_non_finite(Exec{pool}, t, Kind::real, static_cast<const std::byte*>(x.data()), x.size());
}

}  // namespace

void bind_tools(py::module_& m) {
  m.def("isa", [] { return std::string(kernels().isa); }, "The instruction set of the kernels in use.");
  m.def("isas", &supported_isas, "The instruction sets that this processor can run, best first.");
  m.def("cpu_threads", &usable_cores, "Cores that this process may use.");
  m.def("operators", [] {
    std::vector<std::string> names;
    for (auto& op : kernels().operators.all()) names.push_back(op->name);
    return names;
  });
  m.def("formulas", [] { return kernels().formula_names(); });
  m.def(
      "formula",
      [](const std::string& name, const py::args& args, const std::string& device) {
        return run_formula(name, args.cast<std::vector<py::array>>(), {}, device);
      },
      py::arg("name"), py::arg("device") = "cpu");
  m.def("formula_jvp", &run_formula, py::arg("name"), py::arg("args"), py::arg("tangents"), py::arg("device") = "cpu");
  m.def("cuda_device", [] { return cuda().device(); });
  m.def("fill_random", &fill_random, py::arg("distribution"), py::arg("a"), py::arg("b"), py::arg("seed"),
        py::arg("stream"), py::arg("shape"), py::arg("dtype"));
  m.def("permutation", &permutation, py::arg("n"), py::arg("seed"), py::arg("stream"));
  m.def("first_non_finite", &first_non_finite, py::arg("array"));
  m.def("class_numbers", &class_numbers, py::arg("array"), py::arg("classes"));
}

}  // namespace thalweg::bindings

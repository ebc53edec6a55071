#include "arrays.h"

namespace thalweg::bindings {
namespace {

std::string nth(const char* what, size_t i) { return std::string(what) + " " + std::to_string(i); }

void check_count(const char* what, size_t got, size_t expected) {
  if (got != expected) fail("got ", got, " ", what, ", expected ", expected);
}

py::object call(Function& f, const std::vector<py::array>& inputs,
                const std::optional<std::vector<py::object>>& tangents, uint64_t seed, uint64_t step) {
  Function::Arrays a;
  check_count("inputs", inputs.size(), f.inputs().size());
  if (tangents && !f.tangents()) fail("this function was built without tangents");
  if (tangents) check_count("tangents", tangents->size(), inputs.size());
  std::vector<py::array> keep;
  for (size_t i = 0; i < inputs.size(); i++) {
    const Type& t = f.type(f.inputs()[i]);
    a.in.push_back(address(inputs[i], f.dtype(), t.kind, t.shape, nth("input", i)));
    const bool given = tangents && !(*tangents)[i].is_none();
    if (given) keep.push_back((*tangents)[i].cast<py::array>());
    a.in_tangent.push_back(given ? address(keep.back(), f.dtype(), t.kind, t.shape, nth("tangent", i)) : nullptr);
  }
  py::list outputs, output_tangents;
  auto make = [&](Value v, py::list& list, std::vector<std::byte*>& addresses) {
    const Type& t = f.type(v);
    py::array out = allocating([&] { return f.what_is(v); }, [&] { return empty(t.shape, f.dtype(), t.kind); });
    addresses.push_back(address(out));
    list.append(out);
  };
  for (Value v : f.outputs()) {
    make(v, outputs, a.out);
    if (f.tangents()) make(v, output_tangents, a.out_tangent);
  }
  {
    py::gil_scoped_release unlocked;
    f.run(a, seed, step);
  }
  if (f.tangents()) return py::make_tuple(outputs, output_tangents);
  return outputs;
}

std::unique_ptr<Function> make(const std::shared_ptr<Graph>& g, std::vector<Value> inputs, std::vector<Value> outputs,
                               const std::string& dtype, bool tangents, int threads, const std::string& precision) {
  for (Value& v : outputs) v = g->complete(v);
  auto frozen = std::make_shared<Graph>(*g);  // what is recorded later does not change this function
  if (parse_precision(precision) == Precision::bf16) {
    if (tangents || parse_dtype(dtype) != DType::f32) fail("a function in bf16 takes float32 and has no tangents");
    Bf16Graph rewritten(*g, int(g->nodes().size()));
    for (auto* values : {&inputs, &outputs})
      for (Value& v : *values) v = rewritten.value(v);
    frozen = std::make_shared<Graph>(rewritten.take());
  }
  return std::make_unique<Function>(std::shared_ptr<const Graph>(frozen), std::move(inputs), std::move(outputs),
                                    parse_dtype(dtype), tangents, threads);
}

}  // namespace

void bind_function(py::module_& m) {
  py::class_<Function>(m, "Function", "A graph compiled to run on arrays.")
      .def(py::init(&make), py::arg("graph"), py::arg("inputs"), py::arg("outputs"), py::arg("dtype") = "float32",
           py::arg("tangents") = false, py::arg("threads") = 0, py::arg("precision") = "full")
      .def("__call__", &call, py::arg("inputs"), py::arg("tangents") = py::none(), py::arg("seed") = 0,
           py::arg("step") = 0);
}

}  // namespace thalweg::bindings

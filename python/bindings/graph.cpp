#include "../../cpp/ops/kernels.h"
#include "arrays.h"

namespace thalweg::bindings {
namespace {

Shape to_shape(const std::vector<int64_t>& s) { return Shape(std::span(s.data(), s.size())); }

Kind parse_kind(const std::string& kind) {
  if (kind == "real") return Kind::real;
  if (kind == "index") return Kind::index;
  fail("kind '", kind, "', expected 'real' or 'index'");
}

Attr to_attr(const std::string& name, const py::handle& x) {
  if (py::isinstance<py::bool_>(x)) return x.cast<bool>();
  if (py::isinstance<py::int_>(x)) return x.cast<int64_t>();
  if (py::isinstance<py::float_>(x)) return x.cast<double>();
  if (py::isinstance<py::str>(x)) return x.cast<std::string>();
  if (py::isinstance<py::sequence>(x)) return x.cast<std::vector<int64_t>>();
  throw TypeError("attribute '" + name + "' has type " + std::string(py::str(py::type::of(x))));
}

std::vector<Value> apply(Graph& g, const std::string& op, std::vector<Value> in, const py::dict& attrs,
                         const std::string& path) {
  Attrs a;
  for (auto& [name, value] : attrs) a.set(name.cast<std::string>(), to_attr(name.cast<std::string>(), value));
  g.set_path(path);
  return g.apply_all(op, std::move(in), std::move(a));
}

Cost graph_cost(const Graph& g, const Node& n) {
  std::vector<Type> in, out;
  for (Value v : n.in) in.push_back(g.type(v));
  for (Value v : n.out) out.push_back(g.type(v));
  const Shards shards = Shards::whole(g.rows());
  return cost_of(n, {in, out, n.attrs, Number::f32, shards, g.rows(), 0});
}

py::list nodes(const Graph& g) {
  py::list all;
  for (const Node& n : g.nodes()) {
    py::dict d;
    py::list shapes;
    for (Value v : n.out) shapes.append(py::tuple(py::cast(g.type(v).shape.vector())));
    const Cost c = graph_cost(g, n);
    d["op"] = n.name;
    d["path"] = n.path;
    d["inputs"] = n.in;
    d["outputs"] = n.out;
    d["shapes"] = shapes;
    d["flops"] = c.flops;
    d["bytes"] = c.bytes;
    d["mult_adds"] = c.mult_adds;
    all.append(d);
  }
  return all;
}

}  // namespace

void bind_graph(py::module_& m) {
  py::class_<Graph, std::shared_ptr<Graph>>(m, "Graph", "A recorded computation on values 0, 1, 2, ...")
      .def(py::init<int64_t>(), py::arg("rows") = 0)
      .def(
          "input",
          [](Graph& g, const std::string& name, const std::vector<int64_t>& shape, const std::string& kind,
             bool batch) { return g.input(name, to_shape(shape), parse_kind(kind), batch); },
          py::arg("name"), py::arg("shape"), py::arg("kind") = "real", py::arg("batch") = false)
      .def(
          "parameter",
          [](Graph& g, const std::string& name, const std::vector<int64_t>& shape, bool trainable) {
            return g.parameter(name, to_shape(shape), trainable);
          },
          py::arg("name"), py::arg("shape"), py::arg("trainable") = true)
      .def(
          "buffer",
          [](Graph& g, const std::string& name, const std::vector<int64_t>& shape) {
            return g.buffer(name, to_shape(shape));
          },
          py::arg("name"), py::arg("shape"))
      .def("constant", &Graph::constant, py::arg("value"))
      .def("apply", &apply, py::arg("op"), py::arg("inputs"), py::arg("attrs"), py::arg("path") = "")
      .def(
          "shape", [](const Graph& g, Value v) { return py::tuple(py::cast(g.type(v).shape.vector())); },
          py::arg("value"))
      .def(
          "kind", [](const Graph& g, Value v) { return g.type(v).kind == Kind::real ? "real" : "index"; },
          py::arg("value"))
      .def(
          "batched", [](const Graph& g, Value v) { return g.type(v).batched(); }, py::arg("value"))
      .def(
          "gradient",
          [](Graph& g, Value output, const std::vector<Value>& wrt, Value seed) {
            return g.gradient(g.complete(output), wrt, seed);
          },
          py::arg("output"), py::arg("wrt"), py::arg("seed") = kNone)
      .def("update_buffer", &Graph::update_buffer, py::arg("buffer"), py::arg("value"))
      .def("nodes", &nodes);
}

}  // namespace thalweg::bindings

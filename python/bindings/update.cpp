#include "../../cpp/plan/cuda.h"
#include "rates.h"

namespace thalweg::bindings {
namespace {

Rule rule_named(const std::string& name) {
  const std::map<std::string, Rule> rules{{"sgd", Rule::sgd},         {"heavy_ball", Rule::heavy_ball},
                                          {"duda", Rule::duda},       {"adagrad", Rule::adagrad},
                                          {"rmsprop", Rule::rmsprop}, {"adam", Rule::adam}};
  auto it = rules.find(name);
  if (it == rules.end()) fail("there is no update rule '", name, "'");
  return it->second;
}

// One update of one array in place, as a step makes it of the whole arena.
void update(const py::dict& rule, uint64_t t, const RateTable& rates, py::array w, const py::array& g, py::array state,
            double grad_scale, int threads, const std::string& device) {
  Update u{parse_rule(rule), get(rule, "momentum", false), t, grad_scale};
  if (rates.size() != kRateFields) fail("rates have ", rates.size(), " elements, expected ", kRateFields);
  const std::vector<Rates> r = rates_of(rates);
  const DType dtype = parse_dtype(std::string(py::str(w.dtype())));
  const Shape shape = shape_of(w);
  Shape states{u.rule.states(u.has_momentum)};
  for (int64_t n : shape) states.push_back(n);
  address(w, dtype, Kind::real, shape, "the parameter");
  address(state, dtype, Kind::real, states, "the state");
  const std::byte* gradient = address(g, dtype, Kind::real, shape, "the gradient");
  std::byte *weights = address(w), *kept = address(state);
  const Segment all{0, shape.size(), 0};
  const bool on_cpu = is_cpu(device);
  py::gil_scoped_release release;
  if (!on_cpu) return cuda().update(dtype, u, r, {&all, 1}, weights, gradient, kept, shape.size());
  check_not_forked();
  std::scoped_lock lock(shared_pool_mutex());
  kernels().update({shared_pool(threads)}, dtype, u, r, {&all, 1}, weights, gradient, kept, shape.size());
}

}  // namespace

UpdateRule parse_rule(const py::dict& d) {
  UpdateRule rule;
  rule.rule = rule_named(get<std::string>(d, "name", "sgd"));
  rule.nesterov = get(d, "nesterov", rule.nesterov);
  rule.eps_inside = get(d, "eps_inside", rule.eps_inside);
  rule.bias_correction = get(d, "bias_correction", rule.bias_correction);
  rule.decoupled = get(d, "decoupled", rule.decoupled);
  return rule;
}

std::vector<Rates> rates_of(const RateTable& table) {
  std::vector<Rates> rates;
  const double* end = table.data() + table.size();
  for (const double* p = table.data(); p < end; p += kRateFields)
    rates.push_back({p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]});
  return rates;
}

void bind_update(py::module_& m) {
  m.attr("RATE_FIELDS") =
      py::make_tuple("lr", "momentum", "dampening", "beta1", "beta2", "decay", "eps", "weight_decay");
  m.def(
      "states", [](const py::dict& rule) { return parse_rule(rule).states(get(rule, "momentum", false)); },
      py::arg("rule"));
  m.def("update", &update, py::arg("rule"), py::arg("t"), py::arg("rates"), py::arg("w"), py::arg("g"),
        py::arg("state"), py::arg("grad_scale") = 1.0, py::arg("threads") = 0, py::arg("device") = "cpu");
}

}  // namespace thalweg::bindings

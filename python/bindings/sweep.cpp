#include "../../cpp/plan/sweep.h"

#include "held.h"
#include "rates.h"

namespace thalweg::bindings {
namespace {

using Arrays = std::vector<py::array>;

// {name: (distribution, a, b) or an array}, in the order of the layout. The arrays belong to the caller's dict.
std::vector<Start> parse_starts(const py::dict& d, const std::vector<Layout::Entry>& entries, DType dtype) {
  std::vector<Start> starts;
  for (const Layout::Entry& e : entries) {
    if (!d.contains(e.name.c_str())) fail("nothing says how '", e.name, "' starts");
    const py::object given = d[e.name.c_str()];
    Start start;
    if (py::isinstance<py::array>(given)) {
      start.values = address(given.cast<py::array>(), dtype, Kind::real, e.shape, "'" + e.name + "'");
    } else {
      const auto t = given.cast<std::tuple<std::string, double, double>>();
      start.distribution = std::get<0>(t), start.a = std::get<1>(t), start.b = std::get<2>(t);
    }
    starts.push_back(std::move(start));
  }
  return starts;
}

SweepNetwork parse_network(const py::dict& d, DType dtype) {
  SweepNetwork n;
  n.model = d["model"].cast<std::shared_ptr<Model>>();
  n.parameters = parse_starts(d["parameters"], n.model->layout.parameters, dtype);
  n.buffers = parse_starts(d["buffers"], n.model->layout.buffers, dtype);
  n.data = data_of(n.model->train, dtype, d["data"].cast<Arrays>(), 0);
  if (!d["validation"].is_none()) n.validation = data_of(n.model->evaluate, dtype, d["validation"].cast<Arrays>(), 0);
  return n;
}

std::vector<const std::byte*> parse_own(const py::dict& own, const Layout& layout, DType dtype) {
  std::vector<const std::byte*> found;
  if (own.empty()) return found;
  for (const Layout::Entry& e : layout.parameters)
    found.push_back(own.contains(e.name.c_str())
                        ? address(own[e.name.c_str()].cast<py::array>(), dtype, Kind::real, e.shape, "'" + e.name + "'")
                        : nullptr);
  return found;
}

SweepRun parse_run(const py::dict& d, const std::vector<SweepNetwork>& networks) {
  SweepRun r;
  r.network = &networks.at(d["network"].cast<size_t>());
  r.config = parse_config(d["config"]);
  r.epochs = d["epochs"].cast<int64_t>();
  r.batch_size = d["batch_size"].cast<int64_t>();
  r.shuffle = d["shuffle"].cast<bool>();
  if (r.epochs < 0 || r.batch_size < 1) fail("epochs = ", r.epochs, " and batch_size = ", r.batch_size);
  r.parameters = parse_own(get(d, "parameters", py::dict()), r.network->model->layout, r.config.dtype);
  r.rates = rates_of(d["rates"].cast<RateTable>());
  const int64_t groups = r.network->model->groups;
  if (int64_t(r.rates.size()) != groups) fail("rates of ", r.rates.size(), " groups, expected ", groups);
  if (d["lrs"].is_none()) return r;
  const int64_t steps = r.epochs * ((r.network->data.rows + r.batch_size - 1) / r.batch_size);
  r.lrs = reinterpret_cast<const double*>(
      address(d["lrs"].cast<py::array>(), DType::f64, Kind::real, Shape{steps, groups}, "lrs"));
  return r;
}

SweepSettings parse_settings(int threads, const std::string& keep, int column, double sign) {
  const std::map<std::string, Keep> kinds{{"none", Keep::none}, {"best", Keep::best}, {"all", Keep::all}};
  const auto kind = kinds.find(keep);
  if (kind == kinds.end()) fail("keep = '", keep, "', expected 'none', 'best' or 'all'");
  return {threads, kind->second, column, sign};
}

py::dict named(const std::vector<std::vector<std::byte>>& values, const std::vector<Layout::Entry>& entries,
               DType dtype) {
  py::dict d;
  for (size_t k = 0; k < values.size(); k++) {
    py::array a = empty(entries[k].shape, dtype);
    std::memcpy(address(a), values[k].data(), values[k].size());
    d[entries[k].name.c_str()] = a;
  }
  return d;
}

py::dict to_dict(const SweepRun& run, const RunResult& r) {
  static constexpr const char* kNames[] = {"waiting", "interrupted", "finished", "diverged", "failed"};
  const Model& model = *run.network->model;
  const size_t metrics = model.train.metric_sums.size();
  const size_t columns = 3 + metrics + (run.network->validation.rows > 0 ? 1 + metrics : 0);
  py::array_t<double> history({r.history.size() / columns, columns});
  std::copy(r.history.begin(), r.history.end(), history.mutable_data());
  py::dict d;
  d["status"] = kNames[size_t(r.status)];
  d["steps"] = r.steps;
  d["seconds"] = r.seconds;
  d["error"] = r.error;
  d["history"] = history;
  const bool kept = !r.parameters.empty();
  d["parameters"] = kept ? py::object(named(r.parameters, model.layout.parameters, run.config.dtype)) : py::none();
  d["buffers"] = kept ? py::object(named(r.buffers, model.layout.buffers, run.config.dtype)) : py::none();
  return d;
}

// Runs the sweep; true where Ctrl-C ended it.
bool run_until_interrupted(Sweep& sweep, const py::object& progress) {
  const Sweep::Look look = [&](int64_t runs, int64_t steps) {
    check_signals();
    const py::gil_scoped_acquire locked;
    if (!progress.is_none()) progress(runs, steps);
  };
  try {
    const py::gil_scoped_release unlocked;
    sweep.run(look);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_KeyboardInterrupt)) throw;
    return true;
  }
  return false;
}

py::tuple sweep(const std::vector<py::dict>& networks, const std::vector<py::dict>& runs, const std::string& dtype,
                int threads, const std::string& keep, int column, double sign, const py::object& progress) {
  std::vector<SweepNetwork> parsed;
  for (const py::dict& n : networks) parsed.push_back(parse_network(n, parse_dtype(dtype)));
  std::vector<SweepRun> all;
  for (const py::dict& r : runs) all.push_back(parse_run(r, parsed));
  Sweep sweep(std::move(all), parse_settings(threads, keep, column, sign));
  const bool interrupted = run_until_interrupted(sweep, progress);
  py::list results;
  for (size_t i = 0; i < runs.size(); i++) results.append(to_dict(sweep.runs()[i], sweep.results()[i]));
  return py::make_tuple(results, interrupted);
}

}  // namespace

void bind_sweep(py::module_& m) {
  m.def("sweep", &sweep, py::arg("networks"), py::arg("runs"), py::arg("dtype"), py::arg("threads"), py::arg("keep"),
        py::arg("column"), py::arg("sign"), py::arg("progress") = py::none());
}

}  // namespace thalweg::bindings

#include "held.h"
#include "rates.h"

namespace thalweg::bindings {
namespace {

Recording parse_recording(const Graph& g, const py::dict& io) {
  return {g, io["inputs"].cast<std::vector<Value>>(), io["loss"].cast<Value>(),
          get(io, "metrics", std::vector<Value>()), get(io, "outputs", std::vector<Value>())};
}

std::shared_ptr<Model> make_model(const Graph& train, const Graph& evaluate, const py::dict& train_io,
                                  const py::dict& evaluate_io, const std::map<std::string, int>& groups,
                                  const std::string& precision) {
  return std::make_shared<Model>(parse_recording(train, train_io), parse_recording(evaluate, evaluate_io), groups,
                                 parse_precision(precision));
}

std::unique_ptr<Session> make(std::shared_ptr<Model> model, const py::dict& config) {
  auto peers = get(config, "peers", std::shared_ptr<Communicator>());
  const auto same = get(config, "same", Named());
  const SessionConfig parsed = parse_config(config);
  py::gil_scoped_release unlocked;
  return std::make_unique<Session>(std::move(model), parsed, std::move(peers), same);
}

std::vector<Rates> parse_rates(const Session& s, const RateTable& table, int64_t steps) {
  const py::ssize_t n = table.ndim();
  const int64_t groups = n >= 2 ? table.shape(n - 2) : 0;
  if (n < 2 || groups != s.groups() || table.shape(n - 1) != kRateFields ||
      table.size() != steps * groups * kRateFields)
    fail("rates have shape ", shape_of(table), ", expected (", steps, ", ", s.groups(), ", ", kRateFields, ")");
  return rates_of(table);
}

std::vector<double> means(const Sums& s) {
  std::vector<double> m;
  for (double x : s.metrics) m.push_back(x / s.count);
  return m;
}

py::dict to_dict(const StepReport& r, uint64_t t) {
  // Made once (and never destroyed): a step of a small network takes a few microseconds in all.
  static const auto& keys = *new std::array<py::str, 12>{
      "loss",         "count",      "metrics",    "grad_norm",          "seconds", "seconds_comm",
      "seconds_wait", "bytes_comm", "waited_for", "seconds_waited_for", "skipped", "t"};
  const py::object values[] = {py::float_(r.sums.loss / r.sums.count),
                               py::float_(r.sums.count),
                               py::cast(means(r.sums)),
                               py::float_(r.grad_norm),
                               py::float_(r.seconds),
                               py::float_(r.seconds_comm),
                               py::float_(r.seconds_wait),
                               py::int_(r.bytes_comm),
                               py::int_(r.waited_for),
                               py::float_(r.seconds_waited_for),
                               py::bool_(r.skipped),
                               py::int_(t)};
  static_assert(std::size(values) == 12);
  py::dict d;
  for (size_t i = 0; i < keys.size(); i++) d[keys[i]] = values[i];
  return d;
}

py::dict to_dict(const Sums& s) {
  py::dict d;
  d["loss"] = s.loss / s.count;
  d["metrics"] = means(s);
  d["count"] = s.count;
  return d;
}

py::dict step(Session& s, const std::vector<py::array>& inputs, const RateTable& table) {
  const Held held(s);
  const Batch batch = data_of(s.trained(), s.config().dtype, inputs, 0);
  const auto rates = parse_rates(s, table, 1);
  StepReport report;
  {
    py::gil_scoped_release unlocked;
    report = s.step(batch, rates);
  }
  return to_dict(report, s.t);
}

py::array_t<double> column(const std::vector<StepReport>& reports, double (*field)(const StepReport&)) {
  py::array_t<double> out(py::ssize_t(reports.size()));
  for (size_t i = 0; i < reports.size(); i++) out.mutable_at(py::ssize_t(i)) = field(reports[i]);
  return out;
}

py::dict to_columns(const std::vector<StepReport>& reports, size_t metrics) {
  py::dict d;
  d["loss"] = column(reports, [](const StepReport& r) { return r.sums.loss / r.sums.count; });
  d["count"] = column(reports, [](const StepReport& r) { return r.sums.count; });
  d["grad_norm"] = column(reports, [](const StepReport& r) { return r.grad_norm; });
  d["seconds"] = column(reports, [](const StepReport& r) { return r.seconds; });
  d["seconds_comm"] = column(reports, [](const StepReport& r) { return r.seconds_comm; });
  d["seconds_wait"] = column(reports, [](const StepReport& r) { return r.seconds_wait; });
  d["waited_for"] = column(reports, [](const StepReport& r) { return double(r.waited_for); });
  d["seconds_waited_for"] = column(reports, [](const StepReport& r) { return r.seconds_waited_for; });
  d["skipped"] = column(reports, [](const StepReport& r) { return double(r.skipped); });
  py::array_t<double> m({reports.size(), metrics});
  for (size_t i = 0; i < reports.size(); i++)
    for (size_t k = 0; k < metrics; k++) m.mutable_at(i, k) = reports[i].sums.metrics[k] / reports[i].sums.count;
  d["metrics"] = m;
  return d;
}

void add_columns(py::array_t<double, py::array::c_style> totals, const py::dict& columns) {
  using Column = py::array_t<double, py::array::c_style>;
  const auto column = [&](const char* name) { return columns[name].cast<Column>(); };
  const auto span = [](const Column& c) { return std::span<const double>(c.data(), size_t(c.size())); };
  const Column loss = column("loss"), count = column("count"), metrics = column("metrics"), norm = column("grad_norm"),
               skipped = column("skipped");
  add_steps({totals.mutable_data(), size_t(totals.size())},
            {span(loss), span(metrics), span(count), span(norm), span(skipped)});
}

using Order = py::array_t<int64_t, py::array::c_style>;  // row numbers; without one, all rows as they stand

// `unfinished` gets the columns of the steps that were done where an exception ends the epoch, before it is raised.
py::dict run_epoch(Session& s, const std::vector<py::array>& inputs, const std::optional<Order>& order,
                   int64_t batch_size, const RateTable& table, const py::object& progress, double interval,
                   const py::object& unfinished) {
  const Held held(s);
  if (batch_size < 1) fail("batch_size = ", batch_size, ", expected at least 1");
  Batch data = data_of(s.trained(), s.config().dtype, inputs, 0);
  if (order) {
    data.order = order->data();
    for (py::ssize_t i = 0; i < order->size(); i++)
      if (data.order[i] < 0 || data.order[i] >= data.rows)
        fail("order[", i, "] = ", data.order[i], " is outside [0, ", data.rows, ")");
    data.rows = order->size();
  }
  const auto rates = parse_rates(s, table, (data.rows + batch_size - 1) / batch_size);
  // Signals are looked at even where nobody wants to hear of progress.
  auto report = [&](int64_t steps, const StepReport& last) {
    check_signals();
    py::gil_scoped_acquire locked;
    if (!progress.is_none()) progress(steps, to_dict(last, s.t));
  };
  std::vector<StepReport> reports;
  const size_t metrics = s.trained().metric_sums.size();
  try {
    py::gil_scoped_release unlocked;
    s.run_epoch(data, batch_size, rates, interval, report, reports);
  } catch (...) {
    if (!unfinished.is_none()) unfinished(to_columns(reports, metrics));
    throw;
  }
  return to_columns(reports, metrics);
}

py::dict evaluate(Session& s, const std::vector<py::array>& inputs, int64_t batch_size) {
  const Held held(s);
  if (batch_size < 1) fail("batch_size = ", batch_size, ", expected at least 1");
  const Batch data = data_of(s.evaluated(), s.config().dtype, inputs, 0);
  Sums sums;
  {
    py::gil_scoped_release unlocked;
    sums = s.evaluate(data, batch_size, signals_between());
  }
  return to_dict(sums);
}

std::vector<py::array> predict(Session& s, const std::vector<py::array>& inputs, int64_t batch_size) {
  const Held held(s);
  if (batch_size < 1) fail("batch_size = ", batch_size, ", expected at least 1");
  const Recorded& r = s.predicted();
  const Batch data = data_of(r, s.config().dtype, inputs, s.config().labels);
  std::vector<py::array> outputs;
  std::vector<std::byte*> addresses;
  for (Value v : r.outputs) {
    const Type& t = r.graph.type(v);
    if (!t.batched()) fail("an output of shape ", t.shape, " has no batch axis and cannot be predicted row by row");
    Shape shape = t.shape;
    shape[0] = data.rows;
    outputs.push_back(empty(shape, s.config().dtype, t.kind));
    addresses.push_back(address(outputs.back()));
  }
  {
    py::gil_scoped_release unlocked;
    s.predict(data, batch_size, addresses, signals_between());
  }
  return outputs;
}

std::map<std::string, py::array> gradients(Session& s, const std::vector<py::array>& inputs) {
  const Held held(s);
  const Batch batch = data_of(s.trained(), s.config().dtype, inputs, 0);
  Sums sums;
  {
    py::gil_scoped_release unlocked;
    sums = s.gradients(batch);
  }
  return gradient_arrays(s, sums.count);
}

py::tuple profile(Session& s, const std::vector<py::array>& inputs, int repeats) {
  const Held held(s);
  if (repeats < 1) fail("repeats = ", repeats, ", expected at least 1");
  const Batch batch = data_of(s.trained(), s.config().dtype, inputs, 0);
  Session::Profile p;
  {
    py::gil_scoped_release unlocked;
    p = s.profile(batch, repeats, signals_between());
  }
  py::list instructions;
  for (const InstructionInfo& i : p.instructions) {
    py::dict d;
    d["op"] = i.op;
    d["path"] = i.path;
    d["shape"] = py::tuple(py::cast(i.shape.vector()));
    d["stored"] = i.stored;
    d["flops"] = i.cost.flops;
    d["bytes"] = i.cost.bytes;
    instructions.append(d);
  }
  return py::make_tuple(instructions, p.seconds);
}

}  // namespace

SessionConfig parse_config(const py::dict& d) {
  SessionConfig c;
  c.dtype = parse_dtype(get<std::string>(d, "dtype", "float32"));
  c.world = get(d, "world", c.world);
  c.shards = get(d, "shards", c.shards);
  c.threads = get(d, "threads", c.threads);
  c.seed = get(d, "seed", c.seed);
  c.labels = get(d, "labels", c.labels);
  c.max_norm = get(d, "max_norm", c.max_norm);
  c.clip_value = get(d, "clip_value", c.clip_value);
  c.max_layer_norm = get(d, "max_layer_norm", c.max_layer_norm);
  c.accumulate = get(d, "accumulate", c.accumulate);
  c.check_every = get(d, "check_every", c.check_every);
  c.delayed_rank = get(d, "delayed_rank", c.delayed_rank);
  c.seconds_delay = get(d, "seconds_delay", c.seconds_delay);
  c.bucket_bytes = get(d, "bucket_bytes", c.bucket_bytes);
  const auto policy = get<std::string>(d, "on_nonfinite", "raise");
  if (policy != "raise" && policy != "skip") fail("on_nonfinite = '", policy, "', expected 'raise' or 'skip'");
  c.skip_nonfinite = policy == "skip";
  const py::dict rule = get(d, "rule", py::dict());
  c.rule = parse_rule(rule);
  c.has_momentum = get(rule, "momentum", false);
  return c;
}

Batch data_of(const Recorded& r, DType dtype, const std::vector<py::array>& arrays, int missing) {
  const size_t expected = r.inputs.size() - size_t(missing);
  if (arrays.size() != expected) fail("got ", arrays.size(), " input arrays, expected ", expected);
  Batch b;
  for (size_t i = 0; i < arrays.size(); i++) {
    const Type& t = r.graph.type(r.inputs[i]);
    const std::string what = "input '" + r.graph.info(r.inputs[i]).name + "'";
    if (arrays[i].ndim() == 0) fail(what, " is a scalar, expected rows");
    Shape shape = t.shape;
    if (i == 0) b.rows = arrays[0].shape(0);
    shape[0] = b.rows;
    b.data.push_back(address(arrays[i], dtype, t.kind, shape, what));
  }
  b.data.resize(r.inputs.size(), nullptr);
  return b;
}

void bind_session(py::module_& m) {
  py::class_<Model, std::shared_ptr<Model>>(m, "Model", "A network with its loss, which trainings share.")
      .def(py::init(&make_model), py::arg("train"), py::arg("evaluate"), py::arg("train_io"), py::arg("evaluate_io"),
           py::arg("groups") = std::map<std::string, int>(), py::arg("precision") = "full");
  m.def("add_steps", &add_columns, py::arg("totals").noconvert(), py::arg("columns"));
  py::class_<Session> c(m, "Session",
                        "A training run: parameters, optimizer state and plans of every rank of this process.");
  c.def(py::init(&make), py::arg("model"), py::arg("config"))
      .def("step", &step, py::arg("inputs"), py::arg("rates"))
      .def("run_epoch", &run_epoch, py::arg("inputs"), py::arg("order"), py::arg("batch_size"), py::arg("rates"),
           py::arg("progress") = py::none(), py::arg("interval") = 0.1, py::arg("unfinished") = py::none())
      .def("evaluate", &evaluate, py::arg("inputs"), py::arg("batch_size"))
      .def("predict", &predict, py::arg("inputs"), py::arg("batch_size"))
      .def("gradients", &gradients, py::arg("inputs"))
      .def("profile", &profile, py::arg("inputs"), py::arg("repeats"));
  bind_session_state(c);
}

}  // namespace thalweg::bindings

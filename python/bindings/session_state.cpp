#include "held.h"

namespace thalweg::bindings {
namespace {

using Part = Session::Part;
using Arrays = std::map<std::string, py::array>;

Arrays read_all(const Session& s, const std::vector<Layout::Entry>& entries, Part part, int which) {
  const Held held(s);
  Arrays out;
  for (auto& e : entries) {
    py::array a = empty(e.shape, s.config().dtype);
    s.read(part, e, which, address(a));
    out.emplace(e.name, std::move(a));
  }
  return out;
}

// All or nothing: every name and array is checked before the first is written.
void write_all(Session& s, const std::vector<Layout::Entry>& entries, Part part, int which, const Arrays& values,
               const char* what) {
  const Held held(s);
  std::vector<const std::byte*> from;
  for (auto& e : entries) {
    auto it = values.find(e.name);
    if (it == values.end()) fail(what, " '", e.name, "' is missing");
    from.push_back(address(it->second, s.config().dtype, Kind::real, e.shape, std::string(what) + " '" + e.name + "'"));
  }
  for (auto& [name, value] : values) {
    const bool known = std::any_of(entries.begin(), entries.end(), [&, n = &name](auto& e) { return e.name == *n; });
    if (!known) fail(what, " '", name, "' is not of this network");
  }
  for (size_t i = 0; i < entries.size(); i++) s.write(part, entries[i], which, from[i]);
}

std::vector<Arrays> read_state(const Session& s) {
  const Held held(s);
  std::vector<Arrays> all;
  for (int k = 0; k < s.states(); k++) all.push_back(read_all(s, s.layout().parameters, Part::state, k));
  return all;
}

void write_state(Session& s, const std::vector<Arrays>& values) {
  const Held held(s);
  if (int(values.size()) != s.states())
    fail("got ", values.size(), " arenas of optimizer state, expected ", s.states());
  for (int k = 0; k < s.states(); k++)
    write_all(s, s.layout().parameters, Part::state, k, values[k], "optimizer state");
}

}  // namespace

Arrays gradient_arrays(const Session& s, double count) {
  Arrays out = read_all(s, s.layout().parameters, Part::gradients, 0);
  for (auto& e : s.layout().parameters)
    if (!e.trainable) out.erase(e.name);
  for (auto& [name, a] : out) a.attr("__itruediv__")(count);
  return out;
}

void bind_session_state(py::class_<Session>& c) {
  c.def("parameters", [](const Session& s) { return read_all(s, s.layout().parameters, Part::parameters, 0); })
      .def(
          "set_parameters",
          [](Session& s, const Arrays& v) { write_all(s, s.layout().parameters, Part::parameters, 0, v, "parameter"); },
          py::arg("values"))
      .def("buffers", [](const Session& s) { return read_all(s, s.layout().buffers, Part::buffers, 0); })
      .def(
          "set_buffers",
          [](Session& s, const Arrays& v) { write_all(s, s.layout().buffers, Part::buffers, 0, v, "buffer"); },
          py::arg("values"))
      .def("optimizer_state", &read_state)
      .def("set_optimizer_state", &write_state, py::arg("state"))
      .def_property(
          "t", [](const Session& s) { return s.t.load(); },
          [](Session& s, uint64_t t) {
            const Held held(s);
            s.t = t;
          })
      .def("digest",
           [](Session& s) {
             const Held held(s);
             py::gil_scoped_release unlocked;
             return s.digest();
           })
      .def("memory", [](const Session& s) {
        const Held held(s);
        return s.memory();
      });
}

}  // namespace thalweg::bindings

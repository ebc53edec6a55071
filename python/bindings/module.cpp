// module.cpp: the native module. Lists of names; every long call releases the interpreter lock.
#include <system_error>

#include "rates.h"

#ifndef THALWEG_VERSION
#define THALWEG_VERSION "0"
#endif

PYBIND11_MODULE(_core, m) {
  using namespace thalweg;
  using namespace thalweg::bindings;
  m.doc() = "The native engine of thalweg.";
  m.attr("__version__") = THALWEG_VERSION;
  py::register_exception<NonFinite>(m, "DivergedError", PyExc_RuntimeError);
  py::register_exception<Lost>(m, "LostError", PyExc_RuntimeError);
  py::register_exception<ReplicasDiffer>(m, "ReplicaError", PyExc_RuntimeError);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const TypeError& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    } catch (const std::system_error& e) {  // what the system refuses
      PyErr_SetObject(PyExc_OSError, py::make_tuple(e.code().value(), e.what()).ptr());
    }
  });
  bind_graph(m);
  bind_function(m);
  bind_session(m);
  bind_sweep(m);
  bind_update(m);
  bind_comm(m);
  bind_tools(m);
}

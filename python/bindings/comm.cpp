#include "../../cpp/comm/deadline.h"
#include "../../cpp/comm/mail.h"
#include "../../cpp/comm/mpi.h"
#include "../../cpp/comm/nodes.h"
#include "../../cpp/comm/same.h"
#include "../../cpp/comm/shm.h"
#include "../../cpp/ops/kernels.h"
#include "held.h"

namespace thalweg::bindings {
namespace {

struct Payload {
  std::byte* data;
  int64_t elements;
  DType dtype;
};

// A contiguous, writeable float32 or float64 array, used in place.
Payload payload(py::array& a) {
  const DType dtype = parse_dtype(std::string(py::str(a.dtype())));
  address(a, dtype, Kind::real, shape_of(a), "the array");
  if (!a.writeable()) fail("the array is read-only");
  return {address(a), a.size(), dtype};
}

Merge sums(DType t) {
  return [t](std::byte* into, Ranks, const std::byte* from, Ranks, int64_t n) {
    kernels().merge_sums(t, into, from, 0, n);
  };
}

void check_rank(const Communicator& c, int rank) {
  if (rank < 0 || rank >= c.size()) fail("rank ", rank, " is outside [0, ", c.size(), ")");
}

// all_reduce and reduce_scatter: sums over the ranks, in place.
template <auto kCollective>
void summed(Communicator& c, py::array a) {
  const Payload p = payload(a);
  py::gil_scoped_release unlocked;
  (c.*kCollective)(p.data, p.elements, bytes_of(p.dtype), sums(p.dtype));
}

// A call that was started: `done` and `finish()`.
struct Ticket {
  std::shared_ptr<Communicator> comm;
  uint64_t number;
};

Ticket start_all_reduce(const std::shared_ptr<Communicator>& c, py::array a) {
  const Payload p = payload(a);
  const std::shared_ptr<void> keep(new py::array(std::move(a)), [](void* kept) {
    const py::gil_scoped_acquire locked;
    delete static_cast<py::array*>(kept);
  });
  const py::gil_scoped_release unlocked;
  return {c, c->start_all_reduce(p.data, p.elements, bytes_of(p.dtype), sums(p.dtype), keep)};
}

// broadcast, send and recv: the array goes from or to one rank.
template <auto kTransfer>
void transfer(Communicator& c, py::array a, int rank) {
  check_rank(c, rank);
  const Payload p = payload(a);
  py::gil_scoped_release unlocked;
  (c.*kTransfer)(p.data, p.elements, bytes_of(p.dtype), rank);
}

py::array all_gather(Communicator& c, py::array mine) {
  const Payload p = payload(mine);
  Shape shape{int64_t(c.size())};
  for (int64_t n : shape_of(mine)) shape.push_back(n);
  py::array all = empty(shape, p.dtype);
  std::byte* to = address(all);
  py::gil_scoped_release unlocked;
  c.all_gather(p.data, p.elements, bytes_of(p.dtype), to);
  return all;
}

// An array where the other ranks see it, if there is such memory.
py::array make_array(Communicator& c, const std::vector<int64_t>& extents, const std::string& dtype) {
  const DType type = parse_dtype(dtype);
  for (int64_t n : extents)
    if (n < 0) fail("[zeros] an extent is ", n, ", expected at least 0");
  const Shape shape(extents);
  check_size(shape);
  std::shared_ptr<std::byte> memory;
  {
    const py::gil_scoped_release unlocked;
    memory = c.take(shape.size() * bytes_of(type));
  }
  if (!memory) {
    py::array own = empty(shape, type);
    std::memset(address(own), 0, size_t(shape.size() * bytes_of(type)));
    return own;
  }
  auto* kept = new std::shared_ptr<std::byte>(std::move(memory));
  const py::capsule owner(kept, [](void* p) { delete static_cast<std::shared_ptr<std::byte>*>(p); });
  return py::array(py::dtype(dtype), shape.vector(), kept->get(), owner);
}

void bind_shm(py::module_& m) {
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<NodeMemory, std::shared_ptr<NodeMemory>>(m, "NodeMemory",
                                                      "Memory that the processes of one machine share.")
      .def(py::init(&NodeMemory::create), py::arg("size"), py::arg("first") = 0)
      .def_static("open", &NodeMemory::open, py::arg("fd"), py::arg("size"), py::arg("first") = 0)
      .def_property_readonly("fd", &NodeMemory::fd)
      .def_property_readonly("size", &NodeMemory::size)
      .def_property_readonly("has_ended", &NodeMemory::has_ended)
      .def("end", &NodeMemory::end, py::arg("why"), Release());
  m.def(
      "make_shm",
      [](std::shared_ptr<NodeMemory> memory, int rank, double limit) -> std::shared_ptr<Communicator> {
        return make_shm(std::move(memory), rank, limit, check_signals);
      },
      py::arg("memory"), py::arg("rank"), py::arg("limit"), Release(),
      "The communicator of a rank that is this process; returns when all ranks have come.");
}

void bind_mpi(py::module_& m) {
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<Deadline>(m, "Deadline", "Ends the process should a call last too long that nothing can interrupt.")
      .def(py::init<double, std::string, int>(), py::arg("seconds"), py::arg("why"), py::arg("exit_code"))
      .def("meet", &Deadline::meet, Release());
  m.def(
      "make_mpi",
      [](uint64_t handle, int handle_bytes, bool threads) {
        return make_mpi(load_mpi(handle, handle_bytes), check_signals, threads);
      },
      py::arg("handle"), py::arg("handle_bytes"), py::arg("threads") = false,
      "The communicator on a communicator of the MPI that is loaded. threads: whether it may be called by several.");
  m.def(
      "make_messages",
      [](int size) {
        if (size < 1) fail("a world has at least 1 rank, got ", size);
        std::vector<std::shared_ptr<Communicator>> all;
        for (auto& calls : make_mail(size)) all.push_back(make_mpi(std::move(calls), check_signals, true));
        return all;
      },
      py::arg("size"),
      "Those of threads of this process that send messages, as ranks do that MPI connects; for tests.");
  m.def(
      "make_nodes",
      [](const std::shared_ptr<Communicator>& messages, std::shared_ptr<NodeMemory> memory, int place, double limit) {
        return make_nodes(messages, std::move(memory), place, limit, check_signals);
      },
      py::arg("messages"), py::arg("memory"), py::arg("place"), py::arg("limit"), Release(),
      "The same ranks, of several nodes: this one has this place in the memory of its node.");
  m.def("why_flat", &why_flat, py::arg("node"),
        "What keeps ranks, of which each is on this node, from adding node by node; empty where nothing does.");
}

}  // namespace

void bind_comm(py::module_& m) {
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<Communicator, std::shared_ptr<Communicator>>(
      m, "Communicator", "How the ranks of a world talk; each is used from its own thread.")
      .def_property_readonly("rank", &Communicator::rank)
      .def_property_readonly("size", &Communicator::size)
      .def_property_readonly("seconds_waiting", &Communicator::seconds_waiting)
      .def_property_readonly("bytes_sent", &Communicator::bytes_sent)
      .def_property("limit", &Communicator::limit, &Communicator::limit_waits)
      .def_property(
          "overlap", [](const Communicator& c) { return name(c.overlap()); },
          [](Communicator& c, const std::string& name) { c.set_overlap(parse_overlap(name)); },
          "How training exchanges gradients: \"off\", between \"nodes\", or by a \"thread\".")
      .def_property("inside", &Communicator::inside, &Communicator::enter,
                    "The call of a trainer that collectives belong to; messages name it.")
      .def("flight", &Communicator::flight, Release(), "The last collectives, as lines, the newest last.")
      .def("barrier", &Communicator::barrier, Release())
      .def("leave", &Communicator::leave, Release(), "Say that this rank makes no further call.")
      .def("abort", &Communicator::abort, py::arg("why"), Release())
      .def("all_reduce", &summed<&Communicator::all_reduce>, py::arg("array"),
           "Sums the array over the ranks, in place; every rank ends with the same bits.")
      .def("zeros", &make_array, py::arg("shape"), py::arg("dtype") = "float32",
           "An array that the other ranks see where they have common memory: large collectives don't copy it.")
      .def("start_all_reduce", &start_all_reduce, py::arg("array"),
           "Starts all_reduce beside other work; the sum is there once `finish()` of what it returns has returned. "
           "Calls "
           "are finished in the order in which they were started.")
      .def("poll", &Communicator::poll, Release(),
           "Goes on with what was started, without waiting; returns whether all of it is done.")
      .def(
          "finish", [](Communicator& c) { c.finish(); }, Release(), "Waits for all that was started.")
      .def("reduce_scatter", &summed<&Communicator::reduce_scatter>, py::arg("array"),
           "Sums the array over the ranks; rank r keeps its even share of the elements, in place.")
      .def("all_gather", &all_gather, py::arg("array"), "The arrays of all ranks, stacked.")
      .def("broadcast", &transfer<&Communicator::broadcast>, py::arg("array"), py::arg("root") = 0)
      .def("send", &transfer<&Communicator::send>, py::arg("array"), py::arg("to"))
      .def("recv", &transfer<&Communicator::recv>, py::arg("array"), py::arg("from_"))
      .def("gather_texts", &gather_texts, py::arg("mine"), Release(), "The texts of all ranks.")
      .def("check_same", &check_same, py::arg("where"), py::arg("values"), Release())
      .def("split", &Communicator::split, py::arg("color"), py::arg("key") = 0, Release());
  py::class_<Ticket>(m, "Ticket", "A call that was started.")
      .def_property_readonly("done",
                             [](const Ticket& t) {
                               const py::gil_scoped_release unlocked;
                               return t.comm->is_finished(t.number);
                             })
      .def(
          "finish", [](const Ticket& t) { t.comm->finish(t.number); }, Release(),
          "Waits until it is done. Raises as all_reduce, also for what was started before it.");
  m.def(
      "make_threads",
      [](int size) {
        if (size < 1) fail("a world has at least 1 rank, got ", size);
        return make_threads(size);
      },
      py::arg("size"), "Communicators of ranks that are threads of this process, one for each.");
  bind_shm(m);
  bind_mpi(m);
}

}  // namespace thalweg::bindings

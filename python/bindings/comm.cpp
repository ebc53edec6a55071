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

DType dtype_of(const py::array& a) {
  const py::dtype given = a.dtype();
  if (given.is(py::dtype::of<float>())) return DType::f32;
  if (given.is(py::dtype::of<double>())) return DType::f64;
  return parse_dtype(std::string(py::str(given)));  // its text takes longer than a small collective
}

// A contiguous, writeable float32 or float64 array, used in place.
Payload payload(py::array& a) {
  const DType dtype = dtype_of(a);
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

using Comm = std::shared_ptr<Communicator>;

// A call that was started: `done` and `finish()`, which returns what the call that waits does.
struct Ticket {
  Ticket(Comm comm, py::object result) : comm(std::move(comm)), result(std::move(result)) {}
  Ticket(Ticket&&) = default;
  ~Ticket() {
    if (!comm) return;
    const py::gil_scoped_release unlocked;  // as the communicator's own end, if nobody else holds it any more
    comm.reset();
  }
  Comm comm;
  uint64_t number = 0;
  py::object result;
};

// Both forms of a call. Returns `result`, or a ticket; what it works on is `result` and `other`.
template <bool kStarted>
py::object made(const Comm& c, const Ask& ask, py::object result, py::object other = py::none(),
                Merge merge = nullptr) {
  if constexpr (kStarted) {
    const std::shared_ptr<void> keep(new py::tuple(py::make_tuple(result, std::move(other))), [](void* kept) {
      const py::gil_scoped_acquire locked;
      delete static_cast<py::tuple*>(kept);
    });
    Ticket ticket(c, std::move(result));
    {
      const py::gil_scoped_release unlocked;
      ticket.number = c->start(ask, std::move(merge), keep);
    }
    return py::cast(std::move(ticket));
  } else {
    {
      const py::gil_scoped_release unlocked;
      c->perform(ask, merge);
    }
    return result;
  }
}

template <bool kStarted>
py::object barrier(const Comm& c) {
  return made<kStarted>(c, {Operation::barrier}, py::none());
}

// all_reduce and reduce_scatter: sums over the ranks, in place.
template <Operation kOperation, bool kStarted>
py::object summed(const Comm& c, py::array a) {
  const Payload p = payload(a);
  const Ask ask{kOperation, p.data, p.elements, bytes_of(p.dtype)};
  return made<kStarted>(c, ask, std::move(a), py::none(), sums(p.dtype));
}

// broadcast, send and recv: the array goes from or to one rank.
template <Operation kOperation, bool kStarted>
py::object transfer(const Comm& c, py::array a, int rank) {
  check_rank(*c, rank);
  const Payload p = payload(a);
  const Ask ask{kOperation, p.data, p.elements, bytes_of(p.dtype), rank};
  if (kOperation == Operation::send) return made<kStarted>(c, ask, py::none(), std::move(a));
  return made<kStarted>(c, ask, std::move(a));
}

template <bool kStarted>
py::object all_gather(const Comm& c, py::array mine) {
  const Payload p = payload(mine);
  Shape shape{int64_t(c->size())};
  for (int64_t n : shape_of(mine)) shape.push_back(n);
  py::array all = empty(shape, p.dtype);
  const Ask ask{Operation::all_gather, p.data, p.elements, bytes_of(p.dtype), 0, address(all)};
  return made<kStarted>(c, ask, std::move(all), std::move(mine));
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

constexpr const char* kStarts =
    "The same, started: returns a Ticket at once. The call goes on beside other work, whenever this rank waits for "
    "others, at every poll(), or by a thread; the arrays are not touched until `finish()` of the ticket, which returns "
    "what the call that waits does. ";
constexpr const char* kOrder =
    "Started collectives run one after the other; those that wait overtake them. All ranks start the same, in the same "
    "order among all their calls.";
constexpr const char* kLetters =
    "Letters from one rank to another come in the order of the calls, whichever form these have: a send or recv that "
    "waits is done after those of the same peer that were started before it. They wait for nothing else.";

// The calls that have two forms; start: what the name of this form begins with.
template <bool kStarted>
void bind_calls(py::class_<Communicator, Comm>& c, const std::string& start) {
  using O = Operation;
  const auto doc = [](const char* what, const char* rule = kOrder) {
    return kStarted ? what + std::string(" ") + kStarts + rule : std::string(what);
  };
  const auto define = [&](const char* name, auto function, const std::string& text, auto... arguments) {
    c.def((start + name).c_str(), function, arguments..., text.c_str());
  };
  const py::arg array("array"), to("to"), from("from_");
  define("barrier", &barrier<kStarted>, doc("Done once every rank has called it."));
  define("all_reduce", &summed<O::all_reduce, kStarted>,
         doc("Sums the array over the ranks, in place; every rank ends with the same bits. Returns it."), array);
  define("reduce_scatter", &summed<O::reduce_scatter, kStarted>,
         doc("Sums the array over the ranks; rank r keeps its even share of the elements, [n r / P, n (r + 1) / P), in "
             "place. Returns the array."),
         array);
  define("all_gather", &all_gather<kStarted>, doc("Returns the arrays of all ranks, stacked: a new array [size, ...]."),
         array);
  define("broadcast", &transfer<O::broadcast, kStarted>,
         doc("Every rank's array becomes that of the root. Returns it."), array, py::arg("root") = 0);
  define("send", &transfer<O::send, kStarted>, doc("Sends the array to one rank.", kLetters), array, to);
  define("recv", &transfer<O::recv, kStarted>,
         doc("Fills the array with what one rank sends, as long and of one dtype. Returns it.", kLetters), array, from);
}

}  // namespace

void bind_comm(py::module_& m) {
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<Communicator, std::shared_ptr<Communicator>> communicator(
      m, "Communicator", "How the ranks of a world talk; each is used from its own thread.",
      py::release_gil_before_calling_cpp_dtor());  // it takes a lock, whose holder may wait for the interpreter's
  communicator.def_property_readonly("rank", &Communicator::rank)
      .def_property_readonly("size", &Communicator::size)
      .def_property_readonly("seconds_waiting", &Communicator::seconds_waiting)
      .def_property_readonly("bytes_sent", &Communicator::bytes_sent,
                             "Payload of this rank that went to others so far, copies counted; letters to itself not.")
      .def_property("limit", &Communicator::limit, &Communicator::limit_waits)
      .def_property(
          "overlap", [](const Communicator& c) { return name(c.overlap()); },
          [](Communicator& c, const std::string& name) { c.set_overlap(parse_overlap(name)); },
          "How training exchanges gradients: \"off\", between \"nodes\", or by a \"thread\".")
      .def_property("inside", &Communicator::inside, &Communicator::enter,
                    "The call of a trainer that collectives belong to; messages name it.")
      .def("flight", &Communicator::flight, Release(), "The last collectives, as lines, the newest last.")
      .def("leave", &Communicator::leave, Release(), "Say that this rank makes no further call.")
      .def("abort", &Communicator::abort, py::arg("why"), Release())
      .def("zeros", &make_array, py::arg("shape"), py::arg("dtype") = "float32",
           "An array that the other ranks see where they have common memory: large collectives don't copy it.")
      .def("poll", &Communicator::poll, Release(),
           "Goes on with what was started, without waiting; returns whether all of it is done. Raises as `finish()`, "
           "but "
           "for no limit of time.")
      .def(
          "finish", [](Communicator& c) { c.finish(); }, Release(),
          "Waits for all that was started. Raises the first error of it.")
      .def("gather_texts", &gather_texts, py::arg("mine"), Release(), "The texts of all ranks.")
      .def("check_same", &check_same, py::arg("where"), py::arg("values"), Release())
      .def("split", &Communicator::split, py::arg("color"), py::arg("key") = 0, Release());
  bind_calls<false>(communicator, "");
  bind_calls<true>(communicator, "start_");
  py::class_<Ticket>(m, "Ticket", "A call that was started.")
      .def_property_readonly("done",
                             [](const Ticket& t) {
                               const py::gil_scoped_release unlocked;
                               return t.comm->is_finished(t.number);
                             })
      .def(
          "finish",
          [](const Ticket& t) {
            {
              const py::gil_scoped_release unlocked;
              t.comm->finish(t.number);
            }
            return t.result;
          },
          "Waits until it is done, and returns what the call that waits returns. Raises as that, also for what it "
          "follows: the collectives, or the letters to or from the same rank, that were started before it.");
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

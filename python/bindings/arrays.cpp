#include "arrays.h"

#include "../../cpp/tensor/arena.h"

namespace thalweg::bindings {
namespace {

py::dtype numpy_dtype(DType dtype, Kind kind) {
  if (kind == Kind::index) return py::dtype::of<int32_t>();
  return dtype == DType::f32 ? py::dtype::of<float>() : py::dtype::of<double>();
}

// Memory of large result arrays, kept for the next one of the same size: fresh pages cost about half of the time of an
// operator that only moves memory. What was kept longest goes first. Used under the interpreter lock.
class Reused {
 public:
  static constexpr int64_t kSmallest = 64 << 10, kMostKept = 256 << 20;
  static Reused& get() {
    static auto* one = new Reused;  // never destroyed: arrays may outlive everything else
    return *one;
  }
  Arena* take(int64_t bytes) {
    auto& same = free_[align_up(bytes)];
    if (same.empty()) return new Arena(bytes);
    Arena* memory = same.back().memory;
    same.pop_back();
    kept_ -= memory->bytes();
    return memory;
  }
  void give(Arena* memory) {
    kept_ += memory->bytes();
    free_[memory->bytes()].push_back({memory, given_++});
    while (kept_ > kMostKept) drop_oldest();
  }

 private:
  struct Kept {
    Arena* memory;
    int64_t given;  // when
  };
  void drop_oldest() {
    std::vector<Kept>* oldest = nullptr;
    for (auto& [bytes, same] : free_)
      if (!same.empty() && (!oldest || same.front().given < oldest->front().given)) oldest = &same;
    kept_ -= oldest->front().memory->bytes();
    delete oldest->front().memory;
    oldest->erase(oldest->begin());
  }

  std::map<int64_t, std::vector<Kept>> free_;  // by size, each in the order in which they were given
  int64_t kept_ = 0, given_ = 0;
};

template <class From>
py::object numbers_from(const py::array& a, int64_t classes) {
  const From* from = static_cast<const From*>(a.data());
  const py::ssize_t n = a.size();
  bool inside = true;
  for (py::ssize_t i = 0; i < n; i++) inside &= uint64_t(int64_t(from[i])) < uint64_t(classes);
  if (!inside) return py::none();
  if constexpr (std::is_same_v<From, int32_t>) return a;
  py::array out(py::dtype::of<int32_t>(), std::vector<py::ssize_t>(a.shape(), a.shape() + a.ndim()));
  int32_t* to = static_cast<int32_t*>(out.mutable_data());
  for (py::ssize_t i = 0; i < n; i++) to[i] = int32_t(from[i]);
  return out;
}

}  // namespace

py::object class_numbers(const py::array& a, int64_t classes) {
  const bool aligned = reinterpret_cast<uintptr_t>(a.data()) % size_t(a.itemsize()) == 0;
  if (!(a.flags() & py::array::c_style) || !aligned) return py::none();
  if (a.dtype().is(py::dtype::of<int64_t>())) return numbers_from<int64_t>(a, classes);
  if (a.dtype().is(py::dtype::of<int32_t>())) return numbers_from<int32_t>(a, classes);
  if (a.dtype().is(py::dtype::of<uint8_t>())) return numbers_from<uint8_t>(a, classes);
  return py::none();
}

DType parse_dtype(const std::string& name) {
  if (name == "float32") return DType::f32;
  if (name == "float64") return DType::f64;
  throw TypeError("dtype '" + name + "' is not supported; use float32 or float64");
}

Precision parse_precision(const std::string& name) {
  if (name != "full" && name != "bf16") fail("precision '", name, "', expected 'full' or 'bf16'");
  return name == "bf16" ? Precision::bf16 : Precision::full;
}

bool is_cpu(const std::string& device) {
  if (device != "cpu" && device != "cuda") fail("device '", device, "', expected 'cpu' or 'cuda'");
  return device == "cpu";
}

Shape shape_of(const py::array& a) {
  Shape s;
  for (py::ssize_t i = 0; i < a.ndim(); i++) s.push_back(a.shape(i));
  return s;
}

py::array empty(const Shape& shape, DType dtype, Kind kind) {
  check_size(shape);
  const py::dtype element = numpy_dtype(dtype, kind);
  const int64_t bytes = shape.size() * element.itemsize();
  if (bytes < Reused::kSmallest) return py::array(element, shape.vector());
  Arena* memory = Reused::get().take(bytes);
  const py::capsule owner(memory, [](void* p) { Reused::get().give(static_cast<Arena*>(p)); });
  return py::array(element, shape.vector(), memory->data(), owner);
}

const std::byte* address(const py::array& a, DType dtype, Kind kind, const Shape& expected, const std::string& what) {
  const py::dtype want = numpy_dtype(dtype, kind);
  if (!a.dtype().is(want) && !a.dtype().equal(want))
    throw TypeError(what + " has dtype " + std::string(py::str(a.dtype())) + ", expected " +
                    std::string(py::str(want)));
  if (!(shape_of(a) == expected)) fail(what, " has shape ", shape_of(a), ", expected ", expected);
  const auto at = reinterpret_cast<uintptr_t>(a.data());
  if (!(a.flags() & py::array::c_style) || at % size_t(want.itemsize()) != 0)
    fail(what, " is not a contiguous, aligned array");
  return reinterpret_cast<const std::byte*>(at);
}

}  // namespace thalweg::bindings

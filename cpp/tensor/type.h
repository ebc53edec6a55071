// type.h: what the plan knows of a value before it has memory: shape, element kind, and whether axis 0 is the batch.
#pragma once
#include "shape.h"

namespace thalweg {

enum class DType : uint8_t { f32, f64 };  // the precision of a plan
enum class Kind : uint8_t {
  real,
  index,
  bf16
};  // real: the plan's number type; index: int32 (labels);
    // bf16: a real value that is stored as bf16 (float32 plans)
enum class Number : uint8_t { f32, f64, dual32, dual64 };  // the number type that a plan's real values are run with

inline Number number_of(DType t, bool dual) {
  return dual ? (t == DType::f32 ? Number::dual32 : Number::dual64) : (t == DType::f32 ? Number::f32 : Number::f64);
}
inline int64_t bytes_of(DType t) { return t == DType::f32 ? 4 : 8; }
inline DType dtype_of(Number n) { return n == Number::f32 || n == Number::dual32 ? DType::f32 : DType::f64; }
inline bool is_dual(Number n) { return n == Number::dual32 || n == Number::dual64; }
inline int64_t element_bytes(Number n, Kind k) {
  return k == Kind::index ? 4 : k == Kind::bf16 ? 2 : bytes_of(dtype_of(n));
}
inline const char* name_of(DType t) { return t == DType::f32 ? "float32" : "float64"; }
inline const char* name_of(DType t, Kind k) {
  return k == Kind::index ? "int32" : k == Kind::bf16 ? "bf16" : name_of(t);
}

// Where the elements of a value are when several ranks run the plan.
//   replicated: every rank holds all of it      batch: axis 0 is the global batch, each rank holds its rows
//   partial: every rank holds a summand         moments: every rank holds the (mean, M2) of its rows
enum class Placement : uint8_t { replicated, batch, partial, moments };

struct Type {
  Shape shape;
  Kind kind = Kind::real;
  Placement place = Placement::replicated;
  bool batched() const { return place == Placement::batch; }
};

}  // namespace thalweg

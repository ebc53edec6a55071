// update.h: one pass over the flat arenas per step: w, g, state -> w, state. The clip and 1 / count come in as one
// scalar.
#pragma once
#include <span>

#include "../exec/exec.h"

namespace thalweg {

enum class Rule : uint8_t { sgd, heavy_ball, duda, adagrad, rmsprop, adam };

struct UpdateRule {  // what a run fixes once; formulas and sources in formula/optimizer.h
  Rule rule = Rule::sgd;
  bool nesterov = false;
  bool eps_inside = false;      // sqrt(s + eps) instead of sqrt(s) + eps
  bool bias_correction = true;  // Adam
  bool decoupled = false;       // AdamW: decay multiplies w instead of entering the gradient
  // Arenas of state per parameter: 0, 1 or 2.
  int states(bool momentum) const {
    switch (rule) {
      case Rule::sgd: return momentum ? 1 : 0;
      case Rule::heavy_ball:
      case Rule::duda:
      case Rule::adagrad: return 1;
      case Rule::rmsprop: return momentum ? 2 : 1;
      case Rule::adam: return 2;
    }
    return 0;
  }
};

struct Rates {  // what a step sets, per parameter group; computed in double, cast once
  double lr = 0.01, momentum = 0, dampening = 0, beta1 = 0.9, beta2 = 0.999, decay = 0.99, eps = 1e-8, weight_decay = 0;
};

struct Segment {  // a run of the arena with one group's rates
  int64_t begin, end;
  int group;
  double scale = 1;  // clipping per layer: multiplies Update::grad_scale
};

struct Update {
  UpdateRule rule;
  bool has_momentum = false;
  uint64_t t = 1;         // this update's number, from 1
  double grad_scale = 1;  // applied to the gradient sum: clip factor / count
  double clip_value = 0;  // > 0: every scaled gradient is clamped to +-clip_value
};

// state: k planes of `stride` elements. Elements outside the segments (frozen, padding) are untouched.
using UpdateFn = void (*)(const Exec&, DType, const Update&, std::span<const Rates>, std::span<const Segment>,
                          std::byte* w, const std::byte* g, std::byte* state, int64_t stride);
void update(const Exec&, DType, const Update&, std::span<const Rates>, std::span<const Segment>, std::byte* w,
            const std::byte* g, std::byte* state, int64_t stride);

}  // namespace thalweg

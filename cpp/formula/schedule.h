// schedule.h: the learning rate of update t (from 0) as a factor of its base.
//   constant      1
//   step          factor^floor(t / every)
//   cosine        floor + (1 - floor) (1 + cos(pi t / total)) / 2;  `floor` from t = total on
//   one cycle     cosine from 1 / start up to 1 at t = rise, then down to 1 / (start end) at t = total
//   warm-up       (t + 1) / steps while t < steps, then 1; multiplies another schedule
//   inverse time  C / (C + t)
// Sources: Loshchilov & Hutter 2017, arXiv:1608.03983 (cosine); Smith & Topin 2018, arXiv:1708.07120 (one cycle).
#pragma once
#include "math.h"

namespace thalweg {

TW_HD double step_factor(double t, double every, double factor) { return pow(factor, double(int64_t(t / every))); }
// From 1 at share = 0 to 0 at share = 1, along half a cosine.
TW_HD double cosine_ramp(double share) { return 0.5 * (1.0 + cos(3.141592653589793238 * clamp(share, 0.0, 1.0))); }
TW_HD double cosine_factor(double t, double total, double floor) {
  return floor + (1.0 - floor) * cosine_ramp(t / total);
}
TW_HD double one_cycle_factor(double t, double total, double rise, double start, double end) {
  const double low = 1.0 / start, last = low / end;
  const double up = low + (1.0 - low) * (1.0 - cosine_ramp(t / rise));
  const double down = last + (1.0 - last) * cosine_ramp((t - rise) / (total - rise));
  return select(t < rise, up, down);
}
TW_HD double warmup_factor(double t, double steps) { return select(t < steps, (t + 1.0) / steps, 1.0); }
TW_HD double inverse_time_factor(double t, double c) { return c / (c + t); }

}  // namespace thalweg

// conv_lanes.h: convolutions with few outputs, where vectors of outputs would be half empty: as many images as a vector
// has lanes are worked on at once, each in its lane. The sums are those of conv_taps.
#pragma once
#include "conv_taps.h"

namespace thalweg {

template <class T>
bool conv_lanes_fit(const TapConv&);  // whether it pays
template <class T>
void conv_lanes(const Exec&, const TapConv&, const T* source, const T* weight, const T* bias, T* out, bool accumulate);

}  // namespace thalweg

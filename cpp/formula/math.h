// math.h: the elementary functions of every formula: exp expm1 tanh, log log1p, pow, erf, sin cos sincos.
// They are ours because a library's differ by platform and do not vectorise: these give the same bits with every
// instruction set, on CPU and GPU, for float and double, and carry tangents for dual numbers.
// Loops over them vectorise (`omp simd`). The bound of each stands in its file: 1 ulp or little more, tanh 2.
#pragma once
#include "erf.h"
#include "exp.h"
#include "log.h"
#include "pow.h"
#include "trig.h"

// isa.h: which kernel library serves this processor.
#pragma once
#include <string>
#include <vector>

namespace thalweg {

std::vector<std::string> supported_isas();  // best first, of those that are installed beside this library
std::string chosen_isa();                   // the first of them, or what THALWEG_ISA names (ValueError if it can't run)
int usable_cores();                         // that this process may run on

}  // namespace thalweg

// library.h: the shared objects that are opened at run time: kernels and plug-ins, beside the library that opens them.
#pragma once
#include <filesystem>
#include <string>

namespace thalweg {

// Where they lie: the folder of the library or program that this code is linked into, or what THALWEG_KERNELS names.
std::filesystem::path own_folder();

// What the one door of a shared object returns. Throws where it does not open or has no such symbol.
const void* open_door(const std::filesystem::path& library, const char* symbol);

}  // namespace thalweg

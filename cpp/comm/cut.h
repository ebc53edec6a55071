// cut.h: texts that must fit into so many bytes.
#pragma once
#include <string>

namespace thalweg {

// The bytes of the whole characters (UTF-8) that fit into `most`: half of one would make the text unreadable.
inline size_t cut(const std::string& text, size_t most) {
  if (text.size() <= most) return text.size();
  size_t n = most;
  while (n > 0 && (text[n] & 0xC0) == 0x80) n--;
  return n;
}

}  // namespace thalweg

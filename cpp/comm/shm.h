// shm.h: ranks that are processes of one node.
#pragma once
#include "node_memory.h"
#include "visible.h"

namespace thalweg {

// Rank `rank` of the memory, in this process; returns when all have come. Throws Lost after `limit` seconds.
std::shared_ptr<Visible> make_shm(std::shared_ptr<NodeMemory> memory, int rank, double limit,
                                  const std::function<void()>& poll,
                                  std::shared_ptr<Beside> beside = std::make_shared<Beside>());

}  // namespace thalweg

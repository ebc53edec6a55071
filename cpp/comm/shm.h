// shm.h: ranks that are processes of one node.
#pragma once
#include "communicator.h"
#include "node_memory.h"

namespace thalweg {

// Rank `rank` of the memory, in this process; returns when all have come. Throws Lost after `limit` seconds.
std::shared_ptr<Communicator> make_shm(std::shared_ptr<NodeMemory> memory, int rank, double limit,
                                       const std::function<void()>& poll);

}  // namespace thalweg

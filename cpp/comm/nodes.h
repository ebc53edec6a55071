// nodes.h: ranks of several nodes, several on each. Those of a node share memory, those with one place in their nodes
// send messages to one another: a sum is folded inside each node, where every rank has its share, then each share among
// the nodes. So a node sends as much as a single rank of it would, spread over all of them. Where every node has a
// power of two of ranks, one after the other, that is the tree of communicator.h: the bits are those of messages alone.
#pragma once
#include "communicator.h"
#include "node_memory.h"

namespace thalweg {

// What keeps ranks from being folded node by node; empty where nothing does. node: that of each rank.
std::string why_flat(const std::vector<int>& node);

// Ranks that MPI connects (make_mpi), of which this one has this place in the memory of its node; all of them call it,
// for nodes of which none is why_flat(). Throws Lost where those of a node have not come after `limit` seconds.
std::shared_ptr<Communicator> make_nodes(const std::shared_ptr<Communicator>& messages,
                                         std::shared_ptr<NodeMemory> memory, int place, double limit,
                                         const std::function<void()>& poll);

}  // namespace thalweg

// fuse.h: joins the nodes of a program that one kernel does in one pass over memory. Values keep their numbers and
// their bits: what is joined is computed by the same formulas in the same order.
//   activation(producer(x, ...))                 the producer applies the activation to its result
//   producer_backward(activation_backward(d_y))  the producer's backward operators apply its derivative to d_y
//   loss(x, ...), loss_backward(d_loss, x, ...)  one operator makes both, where d_loss is known beforehand
// The first two only where nothing else reads the value between them; one that is asked for is computed as recorded.
#pragma once
#include "graph.h"

namespace thalweg {

// nodes: a copy of the graph's; live: which of them a program needs; uses: how many readers each value has, outputs of
// the program included. Joined nodes are no longer live; indices do not change.
void fuse(std::vector<Node>& nodes, std::vector<char>& live, std::vector<int>& uses);

}  // namespace thalweg

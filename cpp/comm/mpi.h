// mpi.h: ranks that are processes which an MPI library connects, on one machine or many.
#pragma once
#include "communicator.h"
#include "mpi_calls.h"

namespace thalweg {

// threads: whether this MPI can be called by one thread after another.
std::shared_ptr<Communicator> make_mpi(std::unique_ptr<MpiCalls> calls, const std::function<void()>& poll,
                                       bool threads);

}  // namespace thalweg

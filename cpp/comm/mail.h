// mail.h: what of MPI collectives need, between threads of one process: so that tests run ranks that send messages
// without an MPI library.
#pragma once
#include <vector>

#include "mpi_calls.h"

namespace thalweg {

std::vector<std::unique_ptr<MpiCalls>> make_mail(int size);  // one for each rank

}  // namespace thalweg

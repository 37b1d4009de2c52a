// Linked before Open MPI, whose functions do the work.
#define OMPI_SKIP_MPICXX 1
#include "posted.h"

#include <mpi.h>

thread_local std::string posted;

int MPI_Isend(const void* buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request* request) {
  posted += 's';
  return PMPI_Isend(buffer, count, type, to, tag, comm, request);
}

int MPI_Irecv(void* buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request* request) {
  posted += 'r';
  return PMPI_Irecv(buffer, count, type, from, tag, comm, request);
}

// Linked before Open MPI: rank 1's MPI claims to be built without MPI_THREAD_MULTIPLE, as some clusters' is.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <cstdlib>
#include <string_view>

int MPI_Query_thread(int* provided) {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank == nullptr || std::string_view(rank) != "1") return PMPI_Query_thread(provided);
  *provided = MPI_THREAD_SERIALIZED;
  return MPI_SUCCESS;
}

#include <fmt/format.h>

#include "commands.h"
#include "gru4rec/base/error.h"
#include "gru4rec/serve/exports.h"
#include "gru4rec/train/recbole_state.h"
#include "program.h"
#include "world.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

std::string suffix_of(const std::string& format) {
  return format == "torchscript" ? ".pt" : format == "recbole" ? ".pth" : format == "hdf5" ? ".h5" : ".npy";
}

// Other programs go by the suffix, and so does init_from.
void check_request(const ExportRequest& request) {
  if (launched_rank() > 0) throw UserError("export is one process, got several ranks. Start it without mpirun.");
  if (const std::string suffix = suffix_of(request.format); request.output.extension() != suffix)
    throw UserError("--output: got {}, wanted a file named *{} for format {}. Rename it.", request.output.string(), suffix,
                    request.format);
  if (!request.item_order.empty() && request.format != "recbole")
    throw UserError(
        "--item_order: got {} with format {}, wanted format recbole: the others have the order of the store. Leave "
        "it out.",
        request.item_order.string(), request.format);
  if (fs::is_directory(request.output))
    throw UserError("--output: {} is a folder, wanted a file. Name one in it.", request.output.string());
}

// The names of the rows of a RecBole table.
std::vector<std::string> row_order(const ExportRequest& request, const ServedModel& served) {
  if (!request.item_order.empty()) return read_item_ids(request.item_order);
  std::vector<std::string> order = {kPaddingName};
  order.insert(order.end(), served.catalogue().item_names.begin(), served.catalogue().item_names.end());
  return order;
}

}  // namespace

int run_export(const ExportRequest& request) {
  check_request(request);
  const ServedModel served = open_model(request.checkpoint, request.overrides);
  std::string beside;
  if (request.format == "torchscript") {
    export_torchscript(served, request.output);
  } else if (request.format == "hdf5") {
    export_hdf5(served, request.output);
  } else if (request.format == "numpy") {
    export_numpy(served, request.output);
    beside = " and " + item_ids_beside(request.output).string();
  } else {
    require_forward(served, "be exported for RecBole");
    save_recbole_state(request.output, *served.model, served.catalogue().item_names, row_order(request, served));
    beside = " and " + item_ids_beside(request.output).string();
  }
  fmt::print("{} of {} as {}{}\n", request.format, served.file.string(), request.output.string(), beside);
  return kExitDone;
}

}  // namespace gru4rec

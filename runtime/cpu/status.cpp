#include "firewall/status.h"

const char* firewall_status_text(int status) {
  switch (status) {
    case FIREWALL_OK:
      return "done";
    case FIREWALL_NULL_POINTER:
      return "a pointer that is needed is null";
    case FIREWALL_BAD_SIZE:
      return "a height, width or count is outside what the function takes";
    case FIREWALL_BAD_STRIDE:
      return "rows or images of the source lie closer together than their own length";
    case FIREWALL_BAD_PARAMETER:
      return "a parameter is outside what the function takes";
    case FIREWALL_OVERLAP:
      return "destination, source and scratch share memory";
    case FIREWALL_SCRATCH_TOO_SMALL:
      return "the scratch buffer is smaller than the function's scratch size";
    case FIREWALL_NO_CUDA:
      return "the runtime was built without CUDA";
    case FIREWALL_CUDA_ERROR:
      return "a CUDA call failed";
    default:
      return "a status that this version does not know";
  }
}

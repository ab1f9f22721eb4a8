/* What the functions of the C interface answer. Plain C: every header whose name ends in .h can be used from C, and
 * from any language that can call C. No function throws, prints, keeps a pointer that it was given or, unless its
 * header says so, allocates or starts a thread. Two calls may run at the same time if neither writes what the other
 * uses. */
#ifndef FIREWALL_STATUS_H
#define FIREWALL_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

enum {
  FIREWALL_OK = 0,
  FIREWALL_NULL_POINTER = 1,      /* a pointer that is needed is null */
  FIREWALL_BAD_SIZE = 2,          /* a height, width or count outside what the function takes */
  FIREWALL_BAD_STRIDE = 3,        /* rows or images of the source lie closer than their own length */
  FIREWALL_BAD_PARAMETER = 4,     /* a quality, radius, angle, factor, share or name outside what the function takes */
  FIREWALL_OVERLAP = 5,           /* destination, source and scratch share memory */
  FIREWALL_SCRATCH_TOO_SMALL = 6, /* less scratch than the ..._scratch function asks for */
  FIREWALL_NO_CUDA = 7,           /* this build has no CUDA code; see cuda.h */
  FIREWALL_CUDA_ERROR = 8         /* a CUDA call failed; firewall_cuda_error_text says why */
};

/* One sentence about a status; a static string, never null, for unknown values too. */
const char* firewall_status_text(int status);

#ifdef __cplusplus
}
#endif

#endif
